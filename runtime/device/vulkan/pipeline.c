/* SPDX-License-Identifier: MIT */
/* Shaders become pipelines: which module, which size of work-group, made once and shared. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/vulkan/engine.h"

/* Pipelines that no program uses and that are kept all the same: a model takes about 20. */
#define MAX_IDLE	128u
/* Rows of a panel of all *_R32 layouts. */
#define PANEL	32u
#define NUM_LOCALS	3u

/* Of enum unpu_type, GGUF's numbers: a device does not know files. */
enum { TYPE_F32 = 0, TYPE_Q4_0 = 2, TYPE_Q8_0 = 8, TYPE_BF16 = 30 };

static const char *const math_names[UNPU_VK_MATHS] = {
	[UNPU_VK_F32] = "f32", [UNPU_VK_F32S] = "f32s", [UNPU_VK_F16] = "f16",
	[UNPU_VK_SDOT] = "sdot", [UNPU_VK_SUDOT] = "sudot",
};

/* ---- what a shader multiplies by ------------------------------------------------------------- */

void unpu_vk_matrix_get(uint32_t kind, const uint32_t *words, struct unpu_vk_matrix *m)
{
	const void *spec = words;
	const struct unpu_qkv_spec *qkv = spec;
	const struct unpu_attn_out_spec *out = spec;
	const struct unpu_ffn_in_spec *in = spec;
	const struct unpu_ffn_out_spec *down = spec;
	const struct unpu_head_spec *head = spec;

	*m = (struct unpu_vk_matrix){ .layout = DRM_UNPU_LAYOUT_COUNT };
	switch (kind) {
	case UNPU_SHADER_QKV:
		*m = (struct unpu_vk_matrix){ qkv->layout, qkv->numeric, qkv->head_dim,
					      qkv->hidden, UNPU_QKV_QUANTS };
		break;
	case UNPU_SHADER_ATTN_OUT:
		*m = (struct unpu_vk_matrix){ out->layout, out->numeric, PANEL,
					      out->heads * out->head_dim, UNPU_ATTN_OUT_QUANTS };
		break;
	case UNPU_SHADER_FFN_IN:
		*m = (struct unpu_vk_matrix){ in->layout, in->numeric,
					      in->flags & UNPU_FLAG_GATED ? 2 * PANEL : PANEL,
					      in->hidden, UNPU_FFN_IN_QUANTS };
		break;
	case UNPU_SHADER_FFN_OUT:
		*m = (struct unpu_vk_matrix){ down->layout, down->numeric, PANEL, down->ffn,
					      UNPU_FFN_OUT_QUANTS };
		break;
	case UNPU_SHADER_HEAD:
		*m = (struct unpu_vk_matrix){ head->layout, head->numeric, PANEL, head->hidden,
					      UNPU_HEAD_QUANTS };
		break;
	}
}

/* ---- tunings --------------------------------------------------------------------------------- */

bool unpu_vk_math_works(const struct unpu_vk_caps *caps, uint32_t math)
{
	switch (math) {
	case UNPU_VK_F32:
		return true;
	case UNPU_VK_F32S:
		return caps->subgroup_add;
	case UNPU_VK_F16:
		return caps->subgroup_add && caps->f16;
	case UNPU_VK_SDOT:
	case UNPU_VK_SUDOT:
		return caps->subgroup_add && caps->dot;
	}
	return false;
}

/* Work-groups worth a trial. A processor hides nothing behind more invocations, and a barrier is a
 * switch of all. */
static const uint32_t *tuning_locals(const struct unpu_vk_caps *caps)
{
	static const uint32_t gpu[NUM_LOCALS] = { 256, 128, 64 };
	static const uint32_t cpu[NUM_LOCALS] = { 32, 64, 256 };

	return caps->info.type == UNPU_VULKAN_CPU ? cpu : gpu;
}

void unpu_vk_tuning_init(const struct unpu_vk_caps *caps, struct unpu_vk_tuning *tuning)
{
	tuning->math = caps->subgroup_add ? UNPU_VK_F32S : UNPU_VK_F32;
	tuning->local = tuning_locals(caps)[0];
}

int unpu_vk_tuning_parse(const char *text, struct unpu_vk_tuning *tuning)
{
	uint32_t math, local;

	for (math = 0; math < UNPU_VK_MATHS; math++) {
		size_t n = strlen(math_names[math]);
		char known[UNPU_VULKAN_TUNING];

		if (strncmp(text, math_names[math], n) || text[n] != '/')
			continue;
		for (local = 32; local <= 256; local += 32) {
			snprintf(known, sizeof(known), "%s/%u", math_names[math], local);
			if (strcmp(text, known))
				continue;
			*tuning = (struct unpu_vk_tuning){ math, local };
			return 0;
		}
	}
	return -EINVAL;
}

/* Maths of matrix shaders for weights of this type and class, the one taken unasked first. */
static uint32_t tuning_maths(const struct unpu_vk_caps *caps, uint32_t type, uint32_t numeric,
			     uint32_t *maths)
{
	uint32_t n = 0;

	if (numeric == DRM_UNPU_CLASS_A8) {
		if (type != TYPE_Q8_0 && type != TYPE_Q4_0)
			return 0;
		if (caps->dot_signed && unpu_vk_math_works(caps, UNPU_VK_SDOT))
			maths[n++] = UNPU_VK_SDOT;
		if (caps->dot_mixed && unpu_vk_math_works(caps, UNPU_VK_SUDOT))
			maths[n++] = UNPU_VK_SUDOT;
		return n;
	}
	if (unpu_vk_math_works(caps, UNPU_VK_F32S))
		maths[n++] = UNPU_VK_F32S;
	maths[n++] = UNPU_VK_F32;
	if (unpu_vk_math_works(caps, UNPU_VK_F16) && type != TYPE_F32 &&
	    type != TYPE_BF16)
		maths[n++] = UNPU_VK_F16;
	return n;
}

int unpu_vulkan_tunings(uint32_t index, uint32_t type, uint32_t numeric, const struct unpu_log *log,
			char (*tunings)[UNPU_VULKAN_TUNING], uint32_t max, uint32_t *count)
{
	struct unpu_vk_instance vki = { 0 };
	struct unpu_vk_caps caps;
	uint32_t maths[UNPU_VK_MATHS], num_maths = 0;
	const uint32_t *locals;
	int err;

	*count = 0;
	err = unpu_vk_instance_init(&vki, log);
	if (err == -ENOENT)
		return unpu_fail(log, -ENODEV, "no device vulkan:%u: %s", index, vki.why);
	if (err)
		return err;
	err = unpu_vk_caps_read(&vki, index, &caps);
	if (!err)
		num_maths = tuning_maths(&caps, type, numeric, maths);
	locals = tuning_locals(&caps);
	for (uint32_t l = 0; l < NUM_LOCALS; l++)
		for (uint32_t i = 0; i < num_maths && *count < max; i++)
			if (locals[l] <= caps.max_invocations)
				snprintf(tunings[(*count)++], UNPU_VULKAN_TUNING, "%s/%u",
					 math_names[maths[i]], locals[l]);
	unpu_vk_instance_finish(&vki);
	return err;
}

/* ---- which module, which size ---------------------------------------------------------------- */

static uint32_t matrix_math(const struct unpu_vk_caps *caps, const struct unpu_vk_tuning *tuning,
			    const struct unpu_vk_matrix *m)
{
	if (m->numeric == DRM_UNPU_CLASS_A8) {
		if (tuning->math == UNPU_VK_SDOT || tuning->math == UNPU_VK_SUDOT)
			return tuning->math;
		return caps->dot_mixed && !caps->dot_signed ? UNPU_VK_SUDOT : UNPU_VK_SDOT;
	}
	if (tuning->math == UNPU_VK_F16 && m->layout != DRM_UNPU_LAYOUT_F32_R32)
		return UNPU_VK_F16;
	return tuning->math == UNPU_VK_F32 ? UNPU_VK_F32 : UNPU_VK_F32S;
}

static int module_index(uint32_t kind, uint32_t math, uint32_t rows)
{
	uint32_t tokens = rows == 1 ? 1 : UNPU_VK_TOKENS;

	for (uint32_t i = 0; i < unpu_vk_num_modules; i++) {
		const struct unpu_vk_module *module = &unpu_vk_modules[i];

		if (module->kind == kind && module->math == math &&
		    (!module->tokens || module->tokens == tokens))
			return (int)i;
	}
	return -EOPNOTSUPP;
}

static bool layout_known(uint32_t layout)
{
	return layout >= DRM_UNPU_LAYOUT_F32_R32 && layout <= DRM_UNPU_LAYOUT_Q4_R32;
}

int unpu_vk_module_find(const struct unpu_vk_caps *caps, const struct unpu_vk_tuning *tuning,
			uint32_t kind, const uint32_t *spec)
{
	uint32_t math = tuning->math == UNPU_VK_F32 ? UNPU_VK_F32 : UNPU_VK_F32S;
	uint32_t rows = kind == UNPU_SHADER_COPY ? 1 : spec[0];	/* where all specs have rows */
	struct unpu_vk_matrix m;
	int index;

	unpu_vk_matrix_get(kind, spec, &m);
	if (m.layout != DRM_UNPU_LAYOUT_COUNT) {
		if (!layout_known(m.layout))
			return -EOPNOTSUPP;
		math = matrix_math(caps, tuning, &m);
	}
	if (m.numeric == DRM_UNPU_CLASS_A8)
		return unpu_vk_math_works(caps, math) ? module_index(kind, math, rows) :
							-EOPNOTSUPP;
	index = unpu_vk_math_works(caps, math) ? module_index(kind, math, rows) : -EOPNOTSUPP;
	/* Not all shaders gain from a subgroup, and not all have a module for it. */
	return index < 0 ? module_index(kind, UNPU_VK_F32, rows) : index;
}

/*
 * Invocations of a work-group. The matrix shaders split a row's blocks of 32 inputs among
 * local / 32 invocations: of the sizes that take as few turns as the largest, the smallest, in
 * which the fewest idle. It must depend on K alone, for it is the order in which sums are made.
 */
static uint32_t local_size(const struct unpu_vk_caps *caps, const struct unpu_vk_tuning *tuning,
			   const struct unpu_vk_matrix *m)
{
	uint32_t most = caps->max_invocations < 256 ? caps->max_invocations & ~31u : 256;
	uint32_t blocks, turns;

	if (m->layout == DRM_UNPU_LAYOUT_COUNT)
		return most;
	most = (most < tuning->local ? most : tuning->local) / 32;
	blocks = unpu_pad32(m->k) / 32;
	turns = (blocks + most - 1) / most;
	return (blocks + turns - 1) / turns * 32;
}

/* ---- pipelines ------------------------------------------------------------------------------- */

static int shader_layout(struct unpu_vk *vk, struct unpu_vk_shaders *shaders, uint32_t kind)
{
	VkDescriptorSetLayoutBinding bindings[UNPU_SHADER_MAX_BINDINGS];
	const VkDescriptorSetLayoutCreateInfo set = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
		.bindingCount = unpu_shader_info(kind)->num_bindings, .pBindings = bindings,
	};
	const VkPushConstantRange push = { VK_SHADER_STAGE_COMPUTE_BIT, 0, UNPU_VK_PUSH_BYTES };
	const VkPipelineLayoutCreateInfo layout = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
		.setLayoutCount = 1, .pSetLayouts = &shaders->sets[kind],
		.pushConstantRangeCount = 1, .pPushConstantRanges = &push,
	};
	int err;

	for (uint32_t b = 0; b < set.bindingCount; b++)
		bindings[b] = (VkDescriptorSetLayoutBinding){
			.binding = b, .descriptorCount = 1,
			.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
			.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
		};
	err = VK(vk, CreateDescriptorSetLayout, vk->device, &set, NULL, &shaders->sets[kind]);
	return err ? err : VK(vk, CreatePipelineLayout, vk->device, &layout, NULL,
			      &shaders->layouts[kind]);
}

/* Data of another driver is refused by this one; then the cache begins empty. */
static int cache_create(struct unpu_vk *vk, struct unpu_vk_shaders *shaders)
{
	VkPipelineCacheCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
	};
	size_t size = 0;
	void *data = unpu_vk_cache_load(vk, &size);
	VkResult result;

	info.initialDataSize = size;
	info.pInitialData = data;
	if (data)
		shaders->cache_hash = unpu_vk_cache_hash(data, size);
	result = vk->fn.CreatePipelineCache(vk->device, &info, NULL, &shaders->cache);
	free(data);
	if (!result || !size)
		return unpu_vk_result(vk, "vkCreatePipelineCache", result);
	info.initialDataSize = 0;
	info.pInitialData = NULL;
	return VK(vk, CreatePipelineCache, vk->device, &info, NULL, &shaders->cache);
}

int unpu_vk_shaders_init(struct unpu_vk *vk, struct unpu_vk_shaders *shaders)
{
	int err;

	shaders->modules = calloc(unpu_vk_num_modules, sizeof(*shaders->modules));
	if (!shaders->modules)
		return unpu_fail(&vk->log, -ENOMEM, "vulkan: no memory for the shaders");
	err = cache_create(vk, shaders);
	for (uint32_t kind = 0; !err && kind < UNPU_SHADER_COUNT; kind++)
		err = shader_layout(vk, shaders, kind);
	return err;
}

static int module_create(struct unpu_vk *vk, struct unpu_vk_shaders *shaders, uint32_t index)
{
	VkShaderModuleCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
		.codeSize = unpu_vk_modules[index].bytes,
	};
	uint32_t *words;
	int err;

	if (shaders->modules[index])
		return 0;
	err = unpu_vk_module_read(&unpu_vk_modules[index], &words);
	if (err)
		return unpu_fail(&vk->log, err, "vulkan: no memory for a shader of %u bytes",
				 unpu_vk_modules[index].bytes);
	info.pCode = words;
	err = VK(vk, CreateShaderModule, vk->device, &info, NULL, &shaders->modules[index]);
	free(words);
	return err;
}

static int pipeline_compile(struct unpu_vk *vk, struct unpu_vk_shaders *shaders,
			    struct unpu_vk_pipeline *p)
{
	uint32_t words = unpu_shader_info(p->kind)->spec_words;
	uint32_t values[UNPU_SHADER_MAX_SPEC_WORDS + 2];
	VkSpecializationMapEntry entries[UNPU_SHADER_MAX_SPEC_WORDS + 2];
	const VkSpecializationInfo spec = {
		.mapEntryCount = words + 2, .pMapEntries = entries,
		.dataSize = (words + 2) * sizeof(*values), .pData = values,
	};
	const VkComputePipelineCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
		.stage = {
			.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
			.stage = VK_SHADER_STAGE_COMPUTE_BIT, .pName = "main",
			.module = shaders->modules[p->module], .pSpecializationInfo = &spec,
		},
		.layout = shaders->layouts[p->kind],
	};

	memcpy(values, p->spec, words * sizeof(*values));
	values[words] = p->local;
	values[words + 1] = p->no_embed;
	for (uint32_t i = 0; i < words + 2; i++)
		entries[i] = (VkSpecializationMapEntry){ i, i * sizeof(*values), sizeof(*values) };
	entries[words].constantID = UNPU_VK_ID_LOCAL;
	entries[words + 1].constantID = UNPU_VK_ID_NO_EMBED;
	return VK(vk, CreateComputePipelines, vk->device, shaders->cache, 1, &info, NULL,
		  &p->handle);
}

static void pipeline_destroy(struct unpu_vk *vk, struct unpu_vk_pipeline *p)
{
	if (!atomic_load(&vk->lost))
		vk->fn.DestroyPipeline(vk->device, p->handle, NULL);
	free(p);
}

/* The newest come first. */
void unpu_vk_pipelines_trim(struct unpu_vk *vk, struct unpu_vk_shaders *shaders)
{
	struct unpu_vk_pipeline **at = &shaders->pipelines, *p;
	uint32_t idle = 0;

	while ((p = *at)) {
		if (p->refs || idle++ < MAX_IDLE) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		pipeline_destroy(vk, p);
	}
}

static int pipeline_create(struct unpu_vk *vk, struct unpu_vk_shaders *shaders,
			   const struct unpu_vk_pipeline *key, struct unpu_vk_pipeline **pipeline)
{
	struct unpu_vk_pipeline *p = malloc(sizeof(*p));
	uint64_t begin = unpu_vk_now_ns();
	int err;

	if (!p)
		return unpu_fail(&vk->log, -ENOMEM, "vulkan: no memory for a pipeline");
	*p = *key;
	p->refs = 1;
	err = module_create(vk, shaders, p->module);
	if (!err)
		err = pipeline_compile(vk, shaders, p);
	unpu_vk_count(&vk->counters.compile_ns, unpu_vk_now_ns() - begin);
	if (err) {
		free(p);
		return err;
	}
	unpu_vk_count(&vk->counters.pipelines, 1);
	p->next = shaders->pipelines;
	shaders->pipelines = p;
	atomic_fetch_add(&shaders->num_in_use, 1);
	*pipeline = p;
	return 0;
}

int unpu_vk_pipeline_get(struct unpu_vk *vk, struct unpu_vk_shaders *shaders,
			 const struct unpu_vk_tuning *tuning, uint32_t kind, const uint32_t *spec,
			 bool no_embed, struct unpu_vk_pipeline **pipeline)
{
	struct unpu_vk_pipeline key = { .kind = kind, .no_embed = no_embed };
	int module = unpu_vk_module_find(&vk->caps, tuning, kind, spec);
	struct unpu_vk_pipeline *p;
	struct unpu_vk_matrix m;

	if (module < 0)
		return unpu_fail(&vk->log, module, "vulkan: no variant of %s for this device",
				 unpu_shader_info(kind)->name);
	unpu_vk_matrix_get(kind, spec, &m);
	key.module = (uint32_t)module;
	key.local = local_size(&vk->caps, tuning, &m);
	for (uint32_t i = 0; i < unpu_shader_info(kind)->spec_words; i++)
		key.spec[i] = spec[i];
	for (p = shaders->pipelines; p; p = p->next) {
		if (p->kind != kind || p->no_embed != key.no_embed || p->module != key.module ||
		    p->local != key.local || memcmp(p->spec, key.spec, sizeof(key.spec)))
			continue;
		if (!p->refs++)
			atomic_fetch_add(&shaders->num_in_use, 1);
		*pipeline = p;
		return 0;
	}
	return pipeline_create(vk, shaders, &key, pipeline);
}

/* Programs come and go with context buckets; what they are made of is wanted again. */
void unpu_vk_pipeline_put(struct unpu_vk_shaders *shaders, struct unpu_vk_pipeline *pipeline)
{
	if (pipeline && !--pipeline->refs)
		atomic_fetch_sub(&shaders->num_in_use, 1);
}

/* Written at the end, once, and only when the driver has something new to keep: SD cards wear. */
static void cache_save(struct unpu_vk *vk, struct unpu_vk_shaders *shaders)
{
	size_t size = 0;
	void *data = NULL;

	if (!vk->counters.pipelines || !shaders->cache ||
	    vk->fn.GetPipelineCacheData(vk->device, shaders->cache, &size, NULL) || !size)
		return;
	data = malloc(size);
	if (data && !vk->fn.GetPipelineCacheData(vk->device, shaders->cache, &size, data) &&
	    unpu_vk_cache_hash(data, size) != shaders->cache_hash)
		unpu_vk_cache_store(vk, data, size);
	free(data);
}

void unpu_vk_shaders_finish(struct unpu_vk *vk, struct unpu_vk_shaders *shaders)
{
	struct unpu_vk_pipeline *p;

	while ((p = shaders->pipelines)) {
		shaders->pipelines = p->next;
		pipeline_destroy(vk, p);
	}
	if (vk->device && !atomic_load(&vk->lost)) {
		cache_save(vk, shaders);
		for (uint32_t i = 0; shaders->modules && i < unpu_vk_num_modules; i++)
			vk->fn.DestroyShaderModule(vk->device, shaders->modules[i], NULL);
		for (uint32_t kind = 0; kind < UNPU_SHADER_COUNT; kind++) {
			vk->fn.DestroyPipelineLayout(vk->device, shaders->layouts[kind], NULL);
			vk->fn.DestroyDescriptorSetLayout(vk->device, shaders->sets[kind], NULL);
		}
		vk->fn.DestroyPipelineCache(vk->device, shaders->cache, NULL);
	}
	free(shaders->modules);
	*shaders = (struct unpu_vk_shaders){ 0 };
}
