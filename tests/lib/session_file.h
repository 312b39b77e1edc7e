/* SPDX-License-Identifier: MIT */
/* Session files in memory: what runtime/session/file.h says, written a second time. */
#ifndef UNPU_TESTS_SESSION_FILE_H
#define UNPU_TESTS_SESSION_FILE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Make the sums of the file's parts right, as far as the bytes go: what the head says of their
 * lengths is believed. Returns how long the head says that the file is (UINT64_MAX: longer than
 * any).
 */
uint64_t session_file_seal(uint8_t *data, size_t size);

#endif
