/* SPDX-License-Identifier: MIT */
#include "tools/unpu/commands.h"
#include "tools/unpu/json.h"
#include "tools/unpu/out.h"
#include "tools/unpu/sandbox.h"

static const struct option options[] = { OPTION_JSON("JSON instead of a table") };

static int print_device(void *arg, const struct unpu_device_info *info)
{
	(void)arg;
	out_printf("%-10s %s", info->id, info->name);
	if (!info->usable)
		out_printf("; not usable: %s", info->why);
	out_text("\n");
	return 0;
}

static int print_device_json(void *arg, const struct unpu_device_info *info)
{
	(void)arg;
	json_open(NULL, '{');
	json_text("id", info->id);
	json_text("name", info->name);
	json_bool("usable", info->usable);
	if (!info->usable)
		json_text("why", info->why);
	json_close('}');
	return 0;
}

static int devices_main(const struct settings *settings)
{
	int err;

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
	{ "UNPU_CPUMASK=avx2 unpu devices", "What is left without newer instructions." },
	{ NULL, NULL },
};

const struct command cmd_devices = {
	.name = "devices",
	.usage = "[--json]",
	.brief = "what can compute on this machine",
	.details = "Lists the devices of this machine, the preferred one first.",
	.examples = examples,
	.options = options,
	.num_options = sizeof(options) / sizeof(options[0]),
	.run = devices_main,
};
