/* SPDX-License-Identifier: MIT */
/* What a guest tells the plugin: system call INSNCOUNT_MARK, INSNCOUNT_BEGIN or _END, a number. */
#ifndef UNPU_INSNCOUNT_H
#define UNPU_INSNCOUNT_H

/* Not Linux's: the guest gets ENOSYS, and where there is no plugin nothing happens. */
#define INSNCOUNT_MARK	0x756e7075
#define INSNCOUNT_BEGIN	1
#define INSNCOUNT_END	2

#endif
