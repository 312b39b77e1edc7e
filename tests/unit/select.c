/* SPDX-License-Identifier: MIT */
/* Which device an id means, and what is said of one that is not there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/device/device.h"

static char said[256];
static int lines;

static void listen(void *arg, enum unpu_log_level level, const char *text)
{
	(void)arg;
	(void)level;
	snprintf(said, sizeof(said), "%s", text);
	lines++;
}

static int open_device(const char *id)
{
	const struct unpu_device_params params = { .threads = 1, .log = { listen, NULL } };
	struct unpu_device *dev = NULL;
	int err;

	said[0] = '\0';
	lines = 0;
	err = unpu_device_open(id, &params, &dev);
	if (err) {
		assert_null(dev);
		return err;
	}
	assert_string_equal(dev->id, "cpu");
	dev->ops->close(dev);
	return 0;
}

static void test_open(void **state)
{
	(void)state;
	assert_int_equal(open_device(NULL), 0);
	assert_int_equal(open_device("auto"), 0);
	assert_int_equal(open_device("cpu"), 0);
	assert_int_equal(lines, 0);
}

static void test_unknown(void **state)
{
	static const char *const ids[] = {
		"", "CPU", "cpu:0", "gpu", "vulkan", "vulkan:0", "accel:3", "auto ", "%s%n",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		assert_int_equal(open_device(ids[i]), -ENODEV);
		assert_int_equal(lines, 1);
		assert_non_null(strstr(said, ids[i]));
		assert_non_null(strstr(said, "auto, cpu"));
	}
}

static int collect(void *arg, const struct unpu_device_info *info)
{
	int *count = arg;

	assert_string_equal(info->id, "cpu");
	assert_int_equal(info->usable, 1);
	assert_int_equal(strncmp(info->name, "cpu ", 4), 0);
	assert_string_equal(info->why, "");
	++*count;
	return 0;
}

static int refuse(void *arg, const struct unpu_device_info *info)
{
	(void)arg;
	(void)info;
	return -EINTR;
}

static void test_devices(void **state)
{
	int count = 0;

	(void)state;
	assert_int_equal(unpu_devices(collect, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(unpu_devices(refuse, NULL), -EINTR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
