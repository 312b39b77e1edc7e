/* SPDX-License-Identifier: GPL-2.0-only */
/* In the guest of tests/vm: asks for something outside, as tests/vm/guest/host does. */
#ifndef UNPU_KSELFTEST_HOST_H
#define UNPU_KSELFTEST_HOST_H

/* 0, or another number: it was not done, or there is nobody outside. */
int host(const char *words);

#endif
