/* SPDX-License-Identifier: MIT */
#include "tools/unpu/commands.h"
#include "tools/unpu/json.h"
#include "tools/unpu/out.h"
#include "tools/lib/sandbox.h"

static const struct option options[] = {
	OPTION_JSON("JSON instead of a table"),
	{ 0, "retry", OPTION_FLAG, OPTION_FIELD(retry), NULL, NULL, 0, 0,
	  "forget what was found out of devices, one that crashed included, and try them again" },
};

static int print_device(void *arg, const struct unpu_device_info *info)
{
	(void)arg;
	out_printf("%-10s ", info->id);
	out_escaped(info->name);
	if (info->driver[0]) {
		out_text(info->name[0] ? ", " : "");
		out_escaped(info->driver);
	}
	out_printf("%s\n", info->preferred ? " (auto)" : "");
	if (!info->usable || info->verdict[0]) {
		out_printf("%-10s %s", "", info->usable ? "" : "not usable: ");
		out_escaped(info->usable ? info->verdict : info->why);
		out_text("\n");
	}
	return 0;
}

static int print_device_json(void *arg, const struct unpu_device_info *info)
{
	(void)arg;
	json_open(NULL, '{');
	json_text("id", info->id);
	json_text("name", info->name);
	json_text("driver", info->driver[0] ? info->driver : NULL);
	json_bool("usable", info->usable);
	json_bool("preferred", info->preferred);
	json_text("verdict", info->verdict[0] ? info->verdict : NULL);
	if (!info->usable)
		json_text("why", info->why);
	json_close('}');
	return 0;
}

static int devices_main(const struct settings *settings)
{
	int err;

	if (settings->retry)
		unpu_devices_forget(log_library, NULL);
	if (settings->json)
		json_open(NULL, '[');
	err = unpu_devices(settings->json ? print_device_json : print_device, NULL);
	if (settings->json)
		json_close(']');
	else
		out_printf("%-10s %s\n", "sandbox", sandbox_status());
	return err < 0 ? fail_library(err, "devices") : EXIT_OK;
}

static const struct doc_item examples[] = {
	{ "unpu devices", "What -d takes here." },
	{ "unpu devices --retry", "The same after a GPU's driver was mended." },
	{ "UNPU_CPUMASK=avx2 unpu devices", "What is left without newer instructions." },
	{ NULL, NULL },
};

const struct command cmd_devices = {
	.name = "devices",
	.usage = "[--json] [--retry]",
	.brief = "what can compute on this machine",
	.details = "Lists the devices of this machine, the preferred one first. A GPU that Vulkan "
		   "offers is tried out when it is first met: the program unpu-probe, which may "
		   "crash, holds each of its answers against the CPU's and times both. What came "
		   "of it is remembered; -d auto takes a GPU only when it was right and faster. A "
		   "node of the kernel driver unpu (accel:0) is tried out the same way, by unpu "
		   "itself.",
	.examples = examples,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = devices_main,
};
