/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory whose pages come when this process wants them to: a private mapping of a file of FUSE. For
 * root, and one at a time.
 */
#ifndef UNPU_KSELFTEST_SLOWFS_H
#define UNPU_KSELFTEST_SLOWFS_H

#include <stdbool.h>
#include <stdint.h>

/* One page, which nobody has touched; NULL: there is no FUSE. */
void *slowfs_begin(void);
/* What the page will hold. */
void *slowfs_content(void);
/* Waits until somebody waits for the page. */
bool slowfs_asked(uint32_t ms);
void slowfs_give(void);
void slowfs_end(void);

#endif
