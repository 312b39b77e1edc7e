/* SPDX-License-Identifier: MIT */
/*
 * Programs: every dispatch becomes one or several vkCmdDispatch with a descriptor set each, written
 * once and recorded once. Nothing of this happens again when the program runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/device/vulkan/engine.h"

#define PANEL		32u
#define COPY_UNIT	65536u		/* bytes of one unit of `copy`'s grid */

/* What a call needs until its set is written. */
struct binds {
	VkDescriptorBufferInfo infos[UNPU_SHADER_MAX_BINDINGS];
	uint32_t count;
};

/* A program while it is built. */
struct draft {
	struct unpu_vk_engine *e;
	struct unpu_vk_program *p;
	struct binds *binds;		/* of each call */
	uint32_t room;			/* for calls */
	uint32_t num_descriptors;
	/* Of its largest matrix so far. */
	struct unpu_vk_matrix matrix;
	uint64_t matrix_bytes;
};

static uint64_t bank_bytes(const struct unpu_vk_caps *caps)
{
	return caps->max_range < UNPU_VK_BANK ? caps->max_range : UNPU_VK_BANK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static int draft_grow(struct draft *draft)
{
	uint32_t room = draft->room ? 2 * draft->room : 64;
	struct unpu_vk_call *calls;
	struct binds *binds;

	if (draft->p->num_calls < draft->room)
		return 0;
	calls = realloc(draft->p->calls, room * sizeof(*calls));
	if (calls)
		draft->p->calls = calls;
	binds = realloc(draft->binds, room * sizeof(*binds));
	if (binds)
		draft->binds = binds;
	if (!calls || !binds)
		return unpu_fail(&draft->e->vk.log, -ENOMEM, "vulkan: no memory for a program");
	draft->room = room;
	return 0;
}

/* Bindings of a dispatch as the frame checked them. */
static int binds_init(const struct unpu_vk_engine *e, const struct unpu_job_dispatch *d,
		      struct binds *binds)
{
	binds->count = d->num_bindings;
	for (uint32_t b = 0; b < d->num_bindings; b++) {
		const struct unpu_job_binding *from = &d->bindings[b];
		const struct unpu_vk_buffer *buffer = from->bo ? from->bo->priv : NULL;

		/* What is not read has a place all the same, for Vulkan has no empty binding. */
		if (!from->size || !buffer) {
			binds->infos[b] = (VkDescriptorBufferInfo){ e->none.handle, 0,
								    VK_WHOLE_SIZE };
			continue;
		}
		binds->infos[b] = (VkDescriptorBufferInfo){ buffer->handle, from->offset,
							    from->size };
	}
	return 0;
}

/* Appends one vkCmdDispatch; no binding of it may be larger than the device takes. */
static int draft_call(struct draft *draft, uint32_t kind, const uint32_t *spec, bool no_embed,
		      const struct binds *binds, struct unpu_vk_call **call)
{
	struct unpu_vk_engine *e = draft->e;
	struct unpu_vk_call *c;
	int err;

	for (uint32_t b = 0; b < binds->count; b++)
		if (binds->infos[b].range != VK_WHOLE_SIZE &&
		    binds->infos[b].range > e->vk.caps.max_range)
			return unpu_fail(&e->vk.log, -EOPNOTSUPP, "vulkan: %s: binding %u takes "
					 "%llu bytes, this device %llu at most",
					 unpu_shader_info(kind)->name, b,
					 (unsigned long long)binds->infos[b].range,
					 (unsigned long long)e->vk.caps.max_range);
	err = draft_grow(draft);
	if (err)
		return err;
	c = &draft->p->calls[draft->p->num_calls];
	*c = (struct unpu_vk_call){ 0 };
	err = unpu_vk_pipeline_get(&e->vk, &e->shaders, &e->tuning, kind, spec, no_embed,
				   &c->pipeline);
	if (err)
		return err;
	draft->binds[draft->p->num_calls++] = *binds;
	draft->num_descriptors += binds->count;
	*call = c;
	return 0;
}

static void call_units(struct unpu_vk_call *call, uint32_t base, uint32_t limit)
{
	call->push[0] = base;
	call->push[1] = limit;
	call->groups[0] = limit - base;
}

static int check_groups(const struct unpu_vk_engine *e, uint32_t kind,
			const struct unpu_vk_call *call)
{
	for (int i = 0; i < 3; i++)
		if (call->groups[i] > e->vk.caps.max_groups[i])
			return unpu_fail(&e->vk.log, -EOPNOTSUPP, "vulkan: %s: %u work-groups, "
					 "this device takes %u", unpu_shader_info(kind)->name,
					 call->groups[i], e->vk.caps.max_groups[i]);
	return 0;
}

/* ---- banks ----------------------------------------------------------------------------------- */

/* How the planes of a matrix are cut: pieces of `units` units of grid[0], the last may be less. */
struct banks {
	uint32_t unit;			/* rows of a unit */
	uint32_t units;
	uint64_t quants, scales;	/* bytes of a panel */
};

/* Units from which a bank may begin: whole panels, at an offset that a descriptor takes. */
static uint32_t bank_step(const struct banks *banks, uint32_t align)
{
	uint32_t step = 1;

	while (step * banks->unit % PANEL ||
	       step * banks->unit / PANEL * banks->quants % align ||
	       step * banks->unit / PANEL * banks->scales % align)
		step++;
	return step;
}

static void banks_init(const struct unpu_vk_engine *e, const struct unpu_vk_matrix *m,
		       uint64_t quants, uint64_t scales, struct banks *banks)
{
	uint64_t most = bank_bytes(&e->vk.caps), step, panels;

	*banks = (struct banks){
		.unit = m->unit, .units = e->vk.caps.max_groups[0],
		.quants = unpu_layout_quant_bytes(m->layout, PANEL, m->k),
		.scales = unpu_layout_scale_bytes(m->layout, PANEL, m->k),
	};
	step = bank_step(banks, e->vk.caps.buffer_align);
	panels = step * banks->unit / PANEL;
	if (quants > most || (banks->scales && scales > most)) {
		/* At least a step: one that is too large for a binding is refused as such. */
		uint64_t steps = most / (panels * banks->quants);

		steps = steps ? steps : 1;
		if (steps * step < banks->units)
			banks->units = (uint32_t)(steps * step);
	} else if (banks->units > step) {
		banks->units -= banks->units % (uint32_t)step;
	}
}

/* The part of a plane from the panel of unit `base` to that of the last before `limit`. */
static void bank_plane(const struct banks *banks, uint64_t panel, uint32_t base, uint32_t limit,
		       VkDescriptorBufferInfo *info)
{
	uint64_t from = (uint64_t)base * banks->unit / PANEL * panel;
	uint64_t to = ((uint64_t)limit * banks->unit + PANEL - 1) / PANEL * panel;

	if (!panel)
		return;
	if (to > info->range)
		to = info->range;
	info->offset += from;
	info->range = to - from;
}

/* ---- dispatches ------------------------------------------------------------------------------ */

static int add_matrix(struct draft *draft, const struct unpu_job_dispatch *d,
		      const struct unpu_vk_matrix *m)
{
	const struct unpu_job_binding *quants = &d->bindings[m->quants];
	uint32_t units = d->grid[0], base, limit;
	struct unpu_vk_call *call;
	struct banks banks;
	struct binds binds;
	int err = 0;

	if (quants->size > draft->matrix_bytes) {
		draft->matrix = *m;
		draft->matrix_bytes = quants->size;
	}
	banks_init(draft->e, m, quants->size, quants[1].size, &banks);
	for (base = 0; !err && base < units; base = limit) {
		limit = units - base < banks.units ? units : base + banks.units;
		binds_init(draft->e, d, &binds);
		bank_plane(&banks, banks.quants, base, limit, &binds.infos[m->quants]);
		bank_plane(&banks, banks.scales, base, limit, &binds.infos[m->quants + 1]);
		err = draft_call(draft, d->kind, d->spec, false, &binds, &call);
		if (err)
			return err;
		call_units(call, base, limit);
		call->groups[1] = d->spec[0] > 1 ?	/* rows, in tiles */
			(d->spec[0] + UNPU_VK_TOKENS - 1) / UNPU_VK_TOKENS : 1;
		call->groups[2] = 1;
		err = check_groups(draft->e, d->kind, call);
	}
	return err;
}

/*
 * Rows of an embedding table that is larger than a binding: a dispatch for each bank, which writes
 * the rows of x whose token lies in its panels.
 */
static int add_embed_banks(struct draft *draft, const struct unpu_embed_spec *s,
			   const struct binds *from)
{
	const struct unpu_vk_matrix m = { s->layout, 0, PANEL, s->hidden, UNPU_EMBED_QUANTS };
	uint32_t panels = unpu_pad32(s->vocab) / PANEL, base, limit;
	struct unpu_vk_call *call;
	struct banks banks;
	struct binds binds;
	int err;

	banks_init(draft->e, &m, from->infos[UNPU_EMBED_QUANTS].range,
		   from->infos[UNPU_EMBED_SCALES].range, &banks);
	for (base = 0; base < panels; base = limit) {
		limit = panels - base < banks.units ? panels : base + banks.units;
		binds = *from;
		bank_plane(&banks, banks.quants, base, limit, &binds.infos[UNPU_EMBED_QUANTS]);
		bank_plane(&banks, banks.scales, base, limit, &binds.infos[UNPU_EMBED_SCALES]);
		err = draft_call(draft, UNPU_SHADER_EMBED, (const uint32_t *)s, false, &binds,
				 &call);
		if (err)
			return err;
		call_units(call, base, limit);
		call->groups[0] = s->rows;
		call->groups[1] = call->groups[2] = 1;
	}
	return 0;
}

static int add_embed(struct draft *draft, const struct unpu_job_dispatch *d)
{
	struct binds binds;

	binds_init(draft->e, d, &binds);
	return add_embed_banks(draft, (const void *)d->spec, &binds);
}

static bool sample_needs_banks(const struct draft *draft, const struct unpu_job_dispatch *d)
{
	uint64_t most = bank_bytes(&draft->e->vk.caps);

	return d->bindings[UNPU_SAMPLE_QUANTS].size > most ||
	       d->bindings[UNPU_SAMPLE_SCALES].size > most;
}

static int add_sample(struct draft *draft, const struct unpu_job_dispatch *d)
{
	const struct unpu_sample_spec *s = (const void *)d->spec;
	const struct unpu_embed_spec embed = { s->rows, s->slots, s->vocab, s->hidden, s->layout,
					       s->positions };
	bool banks = sample_needs_banks(draft, d);
	struct unpu_vk_call *call;
	struct binds all, binds;
	int err;

	binds_init(draft->e, d, &all);
	binds = all;
	if (banks)
		binds.infos[UNPU_SAMPLE_QUANTS] = binds.infos[UNPU_SAMPLE_SCALES] =
			(VkDescriptorBufferInfo){ draft->e->none.handle, 0, VK_WHOLE_SIZE };
	err = draft_call(draft, d->kind, d->spec, banks, &binds, &call);
	if (err)
		return err;
	call_units(call, 0, 1);
	call->groups[1] = call->groups[2] = 1;
	if (!banks)
		return 0;
	binds.count = UNPU_EMBED_BINDINGS;
	binds.infos[UNPU_EMBED_STATE] = all.infos[UNPU_SAMPLE_STATE];
	binds.infos[UNPU_EMBED_QUANTS] = all.infos[UNPU_SAMPLE_QUANTS];
	binds.infos[UNPU_EMBED_SCALES] = all.infos[UNPU_SAMPLE_SCALES];
	binds.infos[UNPU_EMBED_POSITIONS] = all.infos[UNPU_SAMPLE_POSITIONS];
	binds.infos[UNPU_EMBED_X] = all.infos[UNPU_SAMPLE_X];
	return add_embed_banks(draft, &embed, &binds);
}

/* A long copy is several short ones. */
static int add_copy(struct draft *draft, const struct unpu_job_dispatch *d)
{
	const struct unpu_vk_caps *caps = &draft->e->vk.caps;
	uint64_t bytes = d->bindings[UNPU_COPY_SRC].size, most = bank_bytes(caps), from, n;
	struct unpu_vk_call *call;
	struct binds binds;
	int err;

	/* Never 0: ranges below a unit are refused as such. */
	most = most > COPY_UNIT ? most - most % COPY_UNIT : COPY_UNIT;
	if (most / COPY_UNIT > caps->max_groups[0])
		most = (uint64_t)caps->max_groups[0] * COPY_UNIT;
	for (from = 0; from < bytes; from += n) {
		n = bytes - from < most ? bytes - from : most;
		binds_init(draft->e, d, &binds);
		for (int b = 0; b < UNPU_COPY_BINDINGS; b++) {
			binds.infos[b].offset += from;
			binds.infos[b].range = n;
		}
		err = draft_call(draft, d->kind, d->spec, false, &binds, &call);
		if (err)
			return err;
		call_units(call, 0, (uint32_t)((n + COPY_UNIT - 1) / COPY_UNIT));
		call->groups[1] = call->groups[2] = 1;
		call->push[2] = (uint32_t)n;
		call->push[3] = (uint32_t)(n >> 32);
	}
	return 0;
}

static int add_attn(struct draft *draft, const struct unpu_job_dispatch *d)
{
	const struct unpu_attn_spec *attn = (const void *)d->spec;
	struct unpu_vk_call *call;
	struct binds binds;
	uint32_t tiles;
	int err;

	binds_init(draft->e, d, &binds);
	err = draft_call(draft, d->kind, d->spec, false, &binds, &call);
	if (err)
		return err;
	tiles = (attn->heads / attn->kv_heads + UNPU_VK_HEADS - 1) / UNPU_VK_HEADS;
	call_units(call, 0, d->grid[0] * tiles);
	call->groups[1] = d->grid[1];
	call->groups[2] = d->grid[2];
	memcpy(&call->push[2], d->constants, unpu_shader_info(d->kind)->const_bytes);
	return check_groups(draft->e, d->kind, call);
}

static int draft_add(struct draft *draft, const struct unpu_job_dispatch *d)
{
	struct unpu_vk_matrix m;

	switch (d->kind) {
	case UNPU_SHADER_EMBED:
		return add_embed(draft, d);
	case UNPU_SHADER_ATTN:
		return add_attn(draft, d);
	case UNPU_SHADER_SAMPLE:
		return add_sample(draft, d);
	case UNPU_SHADER_COPY:
		return add_copy(draft, d);
	}
	unpu_vk_matrix_get(d->kind, d->spec, &m);
	return add_matrix(draft, d, &m);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

int unpu_vk_descriptor_pool(struct unpu_vk *vk, uint32_t sets, uint32_t descriptors,
			    VkDescriptorPool *pool)
{
	const VkDescriptorPoolSize size = { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, descriptors };
	const VkDescriptorPoolCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
		.maxSets = sets, .poolSizeCount = 1, .pPoolSizes = &size,
	};

	return VK(vk, CreateDescriptorPool, vk->device, &info, NULL, pool);
}

int unpu_vk_write_set(struct unpu_vk *vk, VkDescriptorPool pool, VkDescriptorSetLayout layout,
		      const VkDescriptorBufferInfo *buffers, uint32_t num_bindings,
		      VkDescriptorSet *set)
{
	const VkDescriptorSetAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
		.descriptorPool = pool, .descriptorSetCount = 1, .pSetLayouts = &layout,
	};
	VkWriteDescriptorSet write = {
		.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
		.descriptorCount = num_bindings, .pBufferInfo = buffers,
		.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
	};
	int err = VK(vk, AllocateDescriptorSets, vk->device, &info, set);

	if (err)
		return err;
	write.dstSet = *set;
	vk->fn.UpdateDescriptorSets(vk->device, 1, &write, 0, NULL);
	unpu_vk_count(&vk->counters.descriptor_updates, 1);
	return 0;
}

static int draft_describe(struct draft *draft)
{
	struct unpu_vk_program *p = draft->p;
	struct unpu_vk *vk = &draft->e->vk;
	int err;

	err = unpu_vk_descriptor_pool(vk, p->num_calls, draft->num_descriptors, &p->descriptors);
	for (uint32_t i = 0; !err && i < p->num_calls; i++)
		err = unpu_vk_write_set(vk, p->descriptors,
					draft->e->shaders.sets[p->calls[i].pipeline->kind],
					draft->binds[i].infos, draft->binds[i].count,
					&p->calls[i].set);
	return err;
}

/* ---- recording ------------------------------------------------------------------------------- */

/*
 * All that was written is seen by all that follows, the host included. One barrier for all: a
 * dispatch reads what the one before it wrote, nearly always.
 */
static void record_barrier(struct unpu_vk *vk, VkCommandBuffer commands)
{
	const VkMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT,
	};

	vk->fn.CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
				  VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0, 1, &barrier, 0, NULL,
				  0, NULL);
}

static void record_host_barrier(struct unpu_vk *vk, VkCommandBuffer commands)
{
	const VkMemoryBarrier barrier = {
		.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
		.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
		.dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT,
	};

	vk->fn.CmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
				  VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
}

static void record_call(struct unpu_vk *vk, VkCommandBuffer commands, VkPipelineLayout layout,
			const struct unpu_vk_call *call)
{
	vk->fn.CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, call->pipeline->handle);
	vk->fn.CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1,
				     &call->set, 0, NULL);
	vk->fn.CmdPushConstants(commands, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
				UNPU_VK_PUSH_BYTES, call->push);
	vk->fn.CmdDispatch(commands, call->groups[0], call->groups[1], call->groups[2]);
}

int unpu_vk_record(struct unpu_vk *vk, VkCommandPool pool, const struct unpu_vk_shaders *shaders,
		   const struct unpu_vk_call *calls, uint32_t num_calls, uint32_t rounds,
		   VkCommandBuffer *commands)
{
	const VkCommandBufferAllocateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
		.commandPool = pool, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
		.commandBufferCount = 1,
	};
	const VkCommandBufferBeginInfo begin = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
	};
	VkCommandBuffer c;
	int err;

	err = VK(vk, AllocateCommandBuffers, vk->device, &info, &c);
	if (!err)
		err = VK(vk, BeginCommandBuffer, c, &begin);
	if (err)
		return err;
	for (uint32_t i = 0; i < rounds * num_calls; i++) {
		const struct unpu_vk_call *call = &calls[i % num_calls];

		record_barrier(vk, c);
		record_call(vk, c, shaders->layouts[call->pipeline->kind], call);
	}
	record_host_barrier(vk, c);
	err = VK(vk, EndCommandBuffer, c);
	if (err)
		return err;
	unpu_vk_count(&vk->counters.recordings, 1);
	*commands = c;
	return 0;
}

int unpu_vk_command_pool(struct unpu_vk *vk, VkCommandPool *pool)
{
	const VkCommandPoolCreateInfo info = {
		.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
		.queueFamilyIndex = vk->caps.queue_family,
	};

	return VK(vk, CreateCommandPool, vk->device, &info, NULL, pool);
}

int unpu_vk_program_rounds(struct unpu_vk_engine *e, struct unpu_vk_program *p)
{
	if (p->rounds)
		return 0;
	return unpu_vk_record(&e->vk, p->commands, &e->shaders, p->calls, p->num_calls,
			      UNPU_VK_ROUNDS, &p->rounds);
}

/* ---- birth and death ------------------------------------------------------------------------- */

static int draft_canary(struct draft *draft)
{
	const struct unpu_vk_matrix *m = &draft->matrix;

	if (draft->matrix_bytes)
		return unpu_vk_canary_get(draft->e, m->layout, m->numeric, &draft->p->canary);
	/* What moves bytes or draws tokens has no matrix of its own: any known answer will do. */
	draft->p->canary = draft->e->canaries;
	return 0;
}

static int draft_finish(struct draft *draft)
{
	struct unpu_vk_program *p = draft->p;
	struct unpu_vk *vk = &draft->e->vk;
	int err;

	err = draft_describe(draft);
	if (!err)
		err = unpu_vk_command_pool(vk, &p->commands);
	if (!err)
		err = unpu_vk_record(vk, p->commands, &draft->e->shaders, p->calls, p->num_calls,
				     1, &p->one);
	return err ? err : draft_canary(draft);
}

int unpu_vk_program_prepare(struct unpu_vk_engine *e, struct unpu_program *program)
{
	struct draft draft = { .e = e, .p = calloc(1, sizeof(*draft.p)) };
	int err = 0;

	if (!draft.p)
		return unpu_fail(&e->vk.log, -ENOMEM, "vulkan: no memory for a program");
	program->priv = draft.p;
	for (uint32_t i = 0; !err && i < program->num_dispatches; i++)
		err = draft_add(&draft, &program->dispatches[i]);
	if (!err)
		err = draft_finish(&draft);
	if (!err)
		err = unpu_vk_imports_prepare(e, program, &draft.p->imports);
	free(draft.binds);
	if (err)
		unpu_vk_program_release(e, program);
	return err;
}

void unpu_vk_program_release(struct unpu_vk_engine *e, struct unpu_program *program)
{
	struct unpu_vk_program *p = program->priv;
	struct unpu_vk *vk = &e->vk;

	if (!p)
		return;
	if (!atomic_load(&vk->lost)) {
		vk->fn.DestroyCommandPool(vk->device, p->commands, NULL);
		vk->fn.DestroyDescriptorPool(vk->device, p->descriptors, NULL);
	}
	for (uint32_t i = 0; i < p->num_calls; i++)
		unpu_vk_pipeline_put(&e->shaders, p->calls[i].pipeline);
	unpu_vk_pipelines_trim(vk, &e->shaders);
	unpu_vk_imports_release(&p->imports);
	free(p->calls);
	free(p);
	program->priv = NULL;
}
