/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * With UNPU_STORM=restart or UNPU_STORM=interrupt in the environment every process that calls a
 * node gets a thousand signals a second from then on, with or without SA_RESTART. At its end the
 * program says on a line "# storm: " how many there were.
 */
#ifndef UNPU_KSELFTEST_STORM_H
#define UNPU_KSELFTEST_STORM_H

/* This process, too. */
void storm_join(void);

#endif
