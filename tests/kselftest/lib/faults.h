/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Faults of the kernel's own making, where it is built for that (FAULT_INJECTION): allocations and
 * copies from and to user memory that fail. Root alone sets them up.
 */
#ifndef UNPU_KSELFTEST_FAULTS_H
#define UNPU_KSELFTEST_FAULTS_H

#include <stdbool.h>

/* NULL, or why this kernel makes none. */
const char *faults_missing(void);
/* Before any of the others, by root: opens what they write to, which an ordinary user may not. */
void faults_setup(void);

/*
 * The nth of what can fail fails, in what this task does next. Its memory has to be there: a page
 * that is missing is an allocation, too.
 */
void fault_arm(unsigned int n);
/* None any more; true: it was reached. */
bool fault_disarm(void);

/* From now on only what this function of the kernel calls fails; NULL: all. False: not here. */
bool faults_within(const char *function);
/* From now on what this function of the kernel calls does not fail; NULL: all does, again. */
bool faults_outside(const char *function);

/* This task is the one that may be starved; it can become an ordinary user's after that. */
void faults_choose(void);
/* From now on it gets nothing of the slab allocator, until faults_end(). */
void faults_starve(void);
/* From now on so many of a hundred allocations fail, whoever makes them, until faults_end(). */
void faults_storm(unsigned int percent);
/* Also where nothing was set up. */
void faults_end(void);

#endif
