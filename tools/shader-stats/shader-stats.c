/* SPDX-License-Identifier: MIT */
/*
 * What the Vulkan driver that the environment names makes of unpu's shaders: one line for each
 * module and shape, cells between tabs. Nothing is run, so a driver without hardware will do.
 *
 *   shader-stats                         the modules of shaders/, f32
 *   shader-stats --math NAME             those of another kind of arithmetic
 *   shader-stats FILE.spv[:ID=VALUE]...  any shader; up to 12 storage buffers, 128 bytes pushed
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vulkan/vulkan.h>

#include "runtime/device/vulkan/vk.h"
#include "shaders/shaders.h"

#define MAX_STATS	64
#define MAX_SPEC	32
#define FILE_BINDINGS	12
#define FILE_PUSH	128

struct gpu {
	VkDevice device;
	char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
	PFN_vkGetPipelineExecutableStatisticsKHR statistics;
};

/* A module to compile and how; ids beside their values. */
struct job {
	char name[64], shape[64];
	const uint32_t *words;
	size_t bytes;
	uint32_t bindings, push;
	uint32_t num_spec;
	uint32_t ids[MAX_SPEC], spec[MAX_SPEC];
};

static void die(const char *what, int result)
{
	fprintf(stderr, "shader-stats: %s: %d\n", what, result);
	exit(1);
}

#define CK(__call)							\
	do {								\
		VkResult ck_ = (__call);				\
		if (ck_ < 0)						\
			die(#__call, ck_);				\
	} while (0)

/* ---- the driver ------------------------------------------------------------------------------ */

static VkPhysicalDevice first_device(void)
{
	VkApplicationInfo app = { VK_STRUCTURE_TYPE_APPLICATION_INFO,
				  .apiVersion = VK_API_VERSION_1_1 };
	VkInstanceCreateInfo info = { VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
				      .pApplicationInfo = &app };
	VkPhysicalDevice device;
	VkInstance instance;
	uint32_t count = 1;

	CK(vkCreateInstance(&info, NULL, &instance));
	CK(vkEnumeratePhysicalDevices(instance, &count, &device));
	if (!count)
		die("no device", 0);
	return device;
}

static void gpu_open(struct gpu *gpu)
{
	static const char *const extension = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
	VkPhysicalDevice physical = first_device();
	float priority = 1;
	VkDeviceQueueCreateInfo queue = { VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
					  .queueCount = 1, .pQueuePriorities = &priority };
	VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR statistics = {
		VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
		.pipelineExecutableInfo = VK_TRUE };
	VkDeviceCreateInfo info = { VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &statistics,
				    .queueCreateInfoCount = 1, .pQueueCreateInfos = &queue,
				    .enabledExtensionCount = 1,
				    .ppEnabledExtensionNames = &extension };
	VkPhysicalDeviceProperties properties;

	vkGetPhysicalDeviceProperties(physical, &properties);
	memcpy(gpu->name, properties.deviceName, sizeof(gpu->name));
	CK(vkCreateDevice(physical, &info, NULL, &gpu->device));
	gpu->statistics = (PFN_vkGetPipelineExecutableStatisticsKHR)
		vkGetDeviceProcAddr(gpu->device, "vkGetPipelineExecutableStatisticsKHR");
	if (!gpu->statistics)
		die("the driver has no statistics", 0);
}

static VkPipelineLayout make_layout(struct gpu *gpu, const struct job *job)
{
	VkDescriptorSetLayoutBinding bindings[FILE_BINDINGS];
	VkDescriptorSetLayoutCreateInfo set = {
		VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
		.bindingCount = job->bindings, .pBindings = bindings };
	VkPushConstantRange push = { VK_SHADER_STAGE_COMPUTE_BIT, 0, job->push };
	VkPipelineLayoutCreateInfo info = { VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
					    .setLayoutCount = 1, .pushConstantRangeCount = 1,
					    .pPushConstantRanges = &push };
	VkDescriptorSetLayout set_layout;
	VkPipelineLayout layout;

	for (uint32_t i = 0; i < job->bindings; i++)
		bindings[i] = (VkDescriptorSetLayoutBinding){
			i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, NULL
		};
	CK(vkCreateDescriptorSetLayout(gpu->device, &set, NULL, &set_layout));
	info.pSetLayouts = &set_layout;
	CK(vkCreatePipelineLayout(gpu->device, &info, NULL, &layout));
	return layout;
}

static VkPipeline compile(struct gpu *gpu, const struct job *job)
{
	VkSpecializationMapEntry entries[MAX_SPEC];
	VkSpecializationInfo special = { job->num_spec, entries, job->num_spec * sizeof(uint32_t),
					 job->spec };
	VkShaderModuleCreateInfo code = { VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
					  .codeSize = job->bytes, .pCode = job->words };
	VkComputePipelineCreateInfo info = {
		VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
		.flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR,
		.stage = { VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			   .stage = VK_SHADER_STAGE_COMPUTE_BIT, .pName = "main",
			   .pSpecializationInfo = &special },
		.layout = make_layout(gpu, job) };
	VkPipeline pipeline;

	for (uint32_t i = 0; i < job->num_spec; i++)
		entries[i] = (VkSpecializationMapEntry){ job->ids[i], i * sizeof(uint32_t),
							 sizeof(uint32_t) };
	CK(vkCreateShaderModule(gpu->device, &code, NULL, &info.stage.module));
	CK(vkCreateComputePipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline));
	return pipeline;
}

/* ---- what it says ---------------------------------------------------------------------------- */

static uint64_t stat_value(const VkPipelineExecutableStatisticKHR *stat)
{
	return stat->format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR ?
	       (uint64_t)stat->value.f64 : stat->value.u64;
}

/*
 * V3D's compiler says how many uniforms there are in its last line on stderr only:
 * "... shader: 76 inst, 2 threads, 1 loops, 20 uniforms, ... 0:0 spills:fills, ...".
 */
static void print_uniforms(FILE *said)
{
	char line[512];
	unsigned int uniforms = 0, temps = 0;
	bool found = false;

	rewind(said);
	while (fgets(line, sizeof(line), said)) {
		const char *at = strstr(line, " loops, ");

		if (at && sscanf(at, " loops, %u uniforms, %u max-temps", &uniforms, &temps) == 2)
			found = true;
	}
	if (found)
		printf("\tUniforms=%u\tTemporaries=%u", uniforms, temps);
}

/* Every statistic as NAME=VALUE: what the columns are is the caller's choice. */
static void print_job(struct gpu *gpu, const struct job *job)
{
	FILE *said = tmpfile();
	VkPipelineExecutableInfoKHR info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR };
	VkPipelineExecutableStatisticKHR stats[MAX_STATS];
	uint32_t count = MAX_STATS;

	if (!said || dup2(fileno(said), STDERR_FILENO) < 0)
		die("a temporary file", -1);
	info.pipeline = compile(gpu, job);
	fflush(stderr);
	for (uint32_t i = 0; i < MAX_STATS; i++)
		stats[i] = (VkPipelineExecutableStatisticKHR){
			.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR };
	CK(gpu->statistics(gpu->device, &info, &count, stats));
	printf("%s\t%s\t%s", gpu->name, job->name, job->shape);
	for (uint32_t i = 0; i < count; i++)
		printf("\t%s=%llu", stats[i].name, (unsigned long long)stat_value(&stats[i]));
	print_uniforms(said);
	putchar('\n');
	fflush(stdout);
}

/* In a process of its own: a compiler that does not survive a shader is a result too. */
static void run_job(struct gpu *gpu, const struct job *job)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child < 0)
		die("fork", child);
	if (!child) {
		print_job(gpu, job);
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		printf("%s\t%s\t%s\tfailed=%d\n", gpu->name, job->name, job->shape, status);
}

/* ---- unpu's shaders in the shapes of models -------------------------------------------------- */

struct shape {
	const char *name;
	uint32_t layout, kv_type, norm, flags, act;
	uint32_t rope;
};

#define ALL_FLAGS (UNPU_FLAG_NORM_BIAS | UNPU_FLAG_BIAS | UNPU_FLAG_QK_NORM | UNPU_FLAG_GATED)

/* The sizes are SmolLM2-135M's; `full` has everything that any model asks for. */
static const struct shape shapes[] = {
	{ "q4", DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_KV_F16, UNPU_NORM_RMS, UNPU_FLAG_GATED,
	  UNPU_ACT_SILU, UNPU_ROPE_PAIRS },
	{ "q8", DRM_UNPU_LAYOUT_Q8_R32, DRM_UNPU_KV_F16, UNPU_NORM_RMS, UNPU_FLAG_GATED,
	  UNPU_ACT_SILU, UNPU_ROPE_PAIRS },
	{ "f16", DRM_UNPU_LAYOUT_F16_R32, DRM_UNPU_KV_F16, UNPU_NORM_RMS, UNPU_FLAG_GATED,
	  UNPU_ACT_SILU, UNPU_ROPE_PAIRS },
	{ "f32", DRM_UNPU_LAYOUT_F32_R32, DRM_UNPU_KV_F32, UNPU_NORM_RMS, UNPU_FLAG_GATED,
	  UNPU_ACT_SILU, UNPU_ROPE_PAIRS },
	{ "full-q4", DRM_UNPU_LAYOUT_Q4_R32, DRM_UNPU_KV_F16, UNPU_NORM_LAYER, ALL_FLAGS,
	  UNPU_ACT_GELU, UNPU_ROPE_HALVES },
};

enum { CELLS = 1024, HIDDEN = 576, HEADS = 9, KV_HEADS = 3, HEAD_DIM = 64, FFN = 1536,
       VOCAB = 49152, POSITIONS = 2048, ROWS = 32 };
#define EPS	1e-5f

union spec {
	uint32_t words[UNPU_SHADER_MAX_SPEC_WORDS];
	struct unpu_embed_spec embed;
	struct unpu_qkv_spec qkv;
	struct unpu_attn_spec attn;
	struct unpu_attn_out_spec attn_out;
	struct unpu_ffn_in_spec ffn_in;
	struct unpu_ffn_out_spec ffn_out;
	struct unpu_head_spec head;
	struct unpu_sample_spec sample;
};

static union spec make_spec(uint32_t kind, const struct shape *s, uint32_t rows, uint32_t numeric)
{
	uint32_t norm_bias = s->flags & UNPU_FLAG_NORM_BIAS, bias = s->flags & UNPU_FLAG_BIAS;
	union spec spec = { { 0 } };

	switch (kind) {
	case UNPU_SHADER_EMBED:
		spec.embed = (struct unpu_embed_spec){ rows, 1, VOCAB, HIDDEN, s->layout, 0 };
		break;
	case UNPU_SHADER_QKV:
		spec.qkv = (struct unpu_qkv_spec){
			rows, 1, CELLS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, s->layout, numeric,
			s->kv_type, s->norm, s->flags & ~UNPU_FLAG_GATED, EPS, s->rope, HEAD_DIM,
			POSITIONS };
		break;
	case UNPU_SHADER_ATTN:
		spec.attn = (struct unpu_attn_spec){ rows, 1, CELLS, HEADS, KV_HEADS, HEAD_DIM,
						     s->kv_type, 0.125f };
		break;
	case UNPU_SHADER_ATTN_OUT:
		spec.attn_out = (struct unpu_attn_out_spec){ rows, 1, CELLS, HIDDEN, HEADS,
							     HEAD_DIM, s->layout, numeric, bias };
		break;
	case UNPU_SHADER_FFN_IN:
		spec.ffn_in = (struct unpu_ffn_in_spec){
			rows, 1, HIDDEN, FFN, s->layout, numeric, s->norm,
			norm_bias | bias | (s->flags & UNPU_FLAG_GATED), s->act, EPS };
		break;
	case UNPU_SHADER_FFN_OUT:
		spec.ffn_out = (struct unpu_ffn_out_spec){ rows, 1, HIDDEN, FFN, s->layout,
							   numeric, bias };
		break;
	case UNPU_SHADER_HEAD:
		spec.head = (struct unpu_head_spec){ rows, 1, HIDDEN, VOCAB, s->layout, numeric,
						     s->norm, norm_bias | bias, EPS, 1 };
		break;
	case UNPU_SHADER_SAMPLE:
		spec.sample = (struct unpu_sample_spec){ rows, 1, CELLS, VOCAB, HIDDEN, 1,
							 s->layout, 0 };
		break;
	}
	return spec;
}

static const char *const maths[UNPU_VK_MATHS] = { "f32", "f32s", "f16", "sdot", "sudot" };

/* Shapes differ for this shader only in what its words are: the same words once. */
static bool seen_before(const struct unpu_vk_module *module, uint32_t shape, uint32_t rows)
{
	union spec spec = make_spec(module->kind, &shapes[shape], rows, 0);

	for (uint32_t i = 0; i < shape; i++) {
		union spec other = make_spec(module->kind, &shapes[i], rows, 0);

		if (!memcmp(&spec, &other, sizeof(spec)))
			return true;
	}
	return false;
}

static void run_shape(struct gpu *gpu, const struct unpu_vk_module *module, uint32_t shape,
		      uint32_t rows, uint32_t local)
{
	const struct unpu_shader_info *info = unpu_shader_info(module->kind);
	bool a8 = module->math == UNPU_VK_SDOT || module->math == UNPU_VK_SUDOT;
	uint32_t numeric = a8 ? DRM_UNPU_CLASS_A8 : DRM_UNPU_CLASS_F32;
	union spec spec = make_spec(module->kind, &shapes[shape], rows, numeric);
	struct job job = { .bytes = module->bytes,
			   .bindings = info->num_bindings, .push = UNPU_VK_PUSH_BYTES,
			   .num_spec = info->spec_words + 1 };
	uint32_t *words;

	if (seen_before(module, shape, rows))
		return;
	if (unpu_shader_check_spec(module->kind, spec.words, info->spec_words)) {
		if (!a8)
			die(info->name, -1);
		return;		/* no such class for these weights */
	}
	for (uint32_t i = 0; i < info->spec_words; i++) {
		job.ids[i] = i;
		job.spec[i] = spec.words[i];
	}
	job.ids[info->spec_words] = UNPU_VK_ID_LOCAL;
	job.spec[info->spec_words] = local;
	snprintf(job.name, sizeof(job.name), "%.*s", (int)strcspn(info->name, "."), info->name);
	snprintf(job.shape, sizeof(job.shape), "%s %s, %u, %u",
		 info->spec_words ? shapes[shape].name : "-", maths[module->math], rows, local);
	if (unpu_vk_module_read(module, &words))
		die(info->name, -1);
	job.words = words;
	run_job(gpu, &job);
	free(words);
}

/* Half the invocations give the same code but for constants: that is shown for one shape. */
static void run_modules(struct gpu *gpu, const char *math)
{
	static const uint32_t locals[] = { 256, 128 };

	for (uint32_t i = 0; i < unpu_vk_num_modules; i++) {
		const struct unpu_vk_module *m = &unpu_vk_modules[i];
		bool matrix = m->tokens;

		if (strcmp(maths[m->math], math))
			continue;
		for (uint32_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++)
			for (uint32_t j = 0; j < (matrix && !k ? 2 : 1); j++)
				run_shape(gpu, m, k, m->tokens == 1 ? 1 : ROWS, locals[j]);
	}
}

/* ---- any shader ------------------------------------------------------------------------------ */

static void run_file(struct gpu *gpu, char *arg)
{
	struct job job = { .bindings = FILE_BINDINGS, .push = FILE_PUSH };
	char *path = strtok(arg, ":"), *item;
	const char *base = strrchr(path, '/');
	uint32_t *words = NULL;
	long bytes = -1;
	FILE *file = fopen(path, "rb");

	if (file && !fseek(file, 0, SEEK_END) && (bytes = ftell(file)) > 0)
		words = malloc((size_t)bytes);
	if (!words || fseek(file, 0, SEEK_SET) || !fread(words, (size_t)bytes, 1, file))
		die(path, -1);
	fclose(file);
	snprintf(job.name, sizeof(job.name), "%.60s", base ? base + 1 : path);
	while ((item = strtok(NULL, ":")) && job.num_spec < MAX_SPEC) {
		job.ids[job.num_spec] = (uint32_t)strtoul(item, &item, 10);
		job.spec[job.num_spec++] = *item ? (uint32_t)strtoul(item + 1, NULL, 10) : 0;
		snprintf(job.shape + strlen(job.shape), sizeof(job.shape) - strlen(job.shape),
			 " %u", job.spec[job.num_spec - 1]);
	}
	job.words = words;
	job.bytes = (size_t)bytes;
	run_job(gpu, &job);
	free(words);
}

int main(int argc, char **argv)
{
	struct gpu gpu;

	gpu_open(&gpu);
	if (argc == 1)
		run_modules(&gpu, "f32");
	else if (argc == 3 && !strcmp(argv[1], "--math"))
		run_modules(&gpu, argv[2]);
	else
		for (int i = 1; i < argc; i++)
			run_file(&gpu, argv[i]);
	return 0;
}
