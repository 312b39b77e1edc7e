/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/device/cpu/isa.h"
#include "runtime/half.h"
#include "runtime/model/blocks.h"
#include "runtime/plan/crew.h"
#include "runtime/plan/pack.h"
#include "runtime/plan/panels.h"
#include "runtime/plan/stage.h"
#include "runtime/text/hash.h"

/* Of weights that a thread packs before it gives the pages back that it has read: what each of
 * them adds to the peak. */
#define PIECE_BYTES	(1u << 20)
#define MAX_SEGMENTS	3
/* Through which weights go to memory that cannot be mapped: what it adds to the peak. Where others
 * hold most of what can be mapped, as clients of one window do, less has to do. */
#define STAGE_BYTES	(8u << 20)
#define LEAST_STAGE_BYTES	(512u << 10)
/* A bank that grows above this ends, where buffers are a device's: few take 128 MiB at once. */
#define BANK_BYTES	(120u << 20)

/*
 * Which rows of the file make a matrix: tensors one after the other, or, for gate and up, 32 rows
 * of the first and 32 of the second in turn.
 */
struct source {
	const struct unpu_tensor *tensor[MAX_SEGMENTS];
	uint32_t count;
	bool interleave;
	uint32_t rows, k;	/* of the packed matrix */
};

/* A matrix that was given its layout and place but not its content yet. */
struct entry {
	struct source source;
	struct unpu_weight *weight;
	uint32_t bank;
	uint32_t first, panels;	/* its first piece, panels of a piece */
};

struct packer {
	struct unpu_weights *w;
	const struct unpu_pack_params *params;
	struct entry *entries;
	uint32_t num_entries;
	uint64_t bank_bytes[UNPU_MAX_BANKS];
	uint8_t *bank_ptr[UNPU_MAX_BANKS];
	uint32_t num_banks;
	struct unpu_stage *stage;	/* NULL: banks are mapped */
	uint64_t stage_bytes;	/* what it is to have, if no piece needs more */
	float *vectors;		/* the bank of small vectors while it is built */
	uint64_t vector_bytes;	/* used of it; the first round only counts */
	uint32_t vector_bank;
	uint64_t vectors_at;	/* where they begin in it */
	uint64_t rounded;	/* types that were said to be, a bit each */
	_Atomic uint64_t done;	/* bytes of matrices */
	uint64_t reported, total;
};

/* The memory is the process's own, and so is the thread that reads it. */
static bool in_process(const struct drm_unpu_dev_info *info)
{
	return info->features & DRM_UNPU_FEATURE_WAIT_RUNS;
}

/* Else what a device would have to be told through the window is written in place. */
static bool is_staged(const struct drm_unpu_dev_info *info)
{
	return !(info->features & DRM_UNPU_FEATURE_UNIFIED);
}

static uint64_t tensor_rows(const struct unpu_tensor *t)
{
	return t->dims[1];
}

static void source_add(struct source *s, const struct unpu_tensor *t)
{
	if (!t)
		return;
	s->tensor[s->count++] = t;
	s->rows += (uint32_t)tensor_rows(t);
	s->k = (uint32_t)t->dims[0];
}

static struct unpu_pack_row source_row(const struct source *s, uint32_t r)
{
	const struct unpu_tensor *t = s->tensor[0];
	uint64_t row = r;

	if (s->interleave) {
		t = s->tensor[r / UNPU_PAD % 2];
		row = (uint64_t)r / (2 * UNPU_PAD) * UNPU_PAD + r % UNPU_PAD;
	} else {
		for (uint32_t i = 0; i + 1 < s->count && row >= tensor_rows(t); t = s->tensor[++i])
			row -= tensor_rows(t);
	}
	if (row >= tensor_rows(t))
		return (struct unpu_pack_row){ 0 };
	return (struct unpu_pack_row){ t->data + t->bytes / tensor_rows(t) * row, t->type };
}

/* ---- choosing and placing ----------------------------------------------------------------- */

static bool quantised(const struct source *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (!unpu_block_type(s->tensor[i]->type))
			return false;
	return true;
}

/* Bytes of 256 weights with their scales. */
static uint32_t layout_bytes(const struct drm_unpu_matrix *m)
{
	const struct unpu_layout_info *info = unpu_layout_info(m->layout);

	if (info->block)
		return 8u * info->block;
	return 32u * info->bits + 256u / info->group * info->scales;
}

typedef int layout_fits_fn(uint32_t layout, uint32_t type);

static bool fits(const struct source *s, uint32_t layout, layout_fits_fn *type_fits)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (!type_fits(layout, s->tensor[i]->type))
			return false;
	return true;
}

/*
 * The smallest of one class that takes all of the source's tensors: of info->matrices, or NULL. The
 * device's order decides between equals.
 */
static const struct drm_unpu_matrix *smallest_layout(const struct drm_unpu_dev_info *info,
						     const struct source *s, uint32_t numeric,
						     layout_fits_fn *type_fits)
{
	const struct drm_unpu_matrix *best = NULL;

	for (uint32_t i = 0; i < info->num_matrices && i < DRM_UNPU_MAX_MATRICES; i++) {
		const struct drm_unpu_matrix *m = &info->matrices[i];

		if (m->numeric != numeric || !unpu_layout_info(m->layout) ||
		    !fits(s, m->layout, type_fits))
			continue;
		if (!best || layout_bytes(m) < layout_bytes(best))
			best = m;
	}
	return best;
}

/* The types whose weights a device's layouts round are named once each. */
static void say_rounded(struct packer *p, const struct source *s, uint32_t layout)
{
	for (uint32_t i = 0; i < s->count; i++) {
		uint32_t type = s->tensor[i]->type;

		if (unpu_layout_holds(layout, type) || p->rounded >> type & 1)
			continue;
		p->rounded |= 1ull << type;
		unpu_log(&p->w->log, UNPU_LOG_INFO, "%s: %s weights are rounded to f16 there",
			 p->w->dev->id, unpu_type_info(type)->name);
	}
}

static int choose_layout(struct packer *p, const struct source *s, struct unpu_weight *out)
{
	const struct drm_unpu_dev_info *info = &p->w->info;
	const struct drm_unpu_matrix *best = NULL;

	if (quantised(s) && !p->params->class_f32)
		best = smallest_layout(info, s, DRM_UNPU_CLASS_A8, unpu_layout_holds);
	/* A device without a dot product has class f32 alone. */
	if (!best)
		best = smallest_layout(info, s, DRM_UNPU_CLASS_F32, unpu_layout_holds);
	/* Twice the bytes are too much to pay for the last bits, unless that is what was asked. */
	if (quantised(s) && !p->params->class_f32 && (!best || layout_bytes(best) == 4 * 256))
		best = smallest_layout(info, s, DRM_UNPU_CLASS_F32, unpu_layout_takes);
	if (!best)
		return unpu_fail(&p->w->log, -ENOTSUP, "%s takes no layout that holds %s weights",
				 p->w->dev->id, unpu_type_info(s->tensor[0]->type)->name);
	say_rounded(p, s, best->layout);
	out->layout = best->layout;
	out->numeric = best->numeric;
	return 0;
}

static uint64_t align_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) / align * align;
}

static uint64_t bank_limit(const struct drm_unpu_dev_info *info)
{
	return in_process(info) || info->max_bo_bytes < BANK_BYTES ? info->max_bo_bytes :
								       BANK_BYTES;
}

/* A range in the current bank, or in a new one when that would grow above the limit. */
static int place(struct packer *p, uint64_t bytes, uint32_t *bank, struct unpu_range *range)
{
	const struct drm_unpu_dev_info *info = &p->w->info;
	uint64_t at = align_up(p->bank_bytes[p->num_banks - 1], unpu_part_align(info));

	if (at && at + bytes > bank_limit(info)) {
		if (p->num_banks == UNPU_MAX_BANKS)
			return -E2BIG;
		p->num_banks++;
		at = 0;
	}
	if (bytes > info->max_bo_bytes)
		return -E2BIG;
	*bank = p->num_banks - 1;
	p->bank_bytes[*bank] = at + bytes;
	range->offset = at;
	range->bytes = bytes;
	return 0;
}

/* Both planes of a matrix lie in one bank, so that packing maps one buffer. */
static int place_weight(struct packer *p, const struct source *s, struct unpu_weight *weight)
{
	struct entry *e = &p->entries[p->num_entries++];
	uint64_t quants, scales, align = unpu_part_align(&p->w->info);
	struct unpu_range both;
	int ret = choose_layout(p, s, weight);

	if (ret)
		return ret;
	weight->rows = s->rows;
	weight->k = s->k;
	quants = unpu_layout_quant_bytes(weight->layout, s->rows, s->k);
	scales = unpu_layout_scale_bytes(weight->layout, s->rows, s->k);
	ret = quants > p->w->info.max_binding_bytes ? -E2BIG :
	      place(p, align_up(quants, align) + scales, &e->bank, &both);
	if (ret)
		return unpu_fail(&p->w->log, ret,
				 "a matrix of %u x %u (%llu MiB) does not fit %s "
				 "(%llu MiB a buffer)", s->rows, s->k,
				 (unsigned long long)(quants + scales) >> 20,
				 p->w->dev->id, (unsigned long long)
				 (p->w->info.max_bo_bytes < p->w->info.max_binding_bytes ?
				  p->w->info.max_bo_bytes : p->w->info.max_binding_bytes) >> 20);
	weight->quants = (struct unpu_range){ .offset = both.offset, .bytes = quants };
	weight->scales = (struct unpu_range){ .offset = both.offset + align_up(quants, align),
					      .bytes = scales };
	e->source = *s;
	e->weight = weight;
	return 0;
}

/* ---- small vectors ------------------------------------------------------------------------ */

/*
 * Vectors are laid out twice by the same code: p->vectors is NULL in the first round, which only
 * counts.
 */
static void vector_begin(struct packer *p, struct unpu_range *range)
{
	p->vector_bytes = align_up(p->vector_bytes, unpu_part_align(&p->w->info));
	range->offset = p->vector_bytes;
}

static void vector_end(struct packer *p, struct unpu_range *range)
{
	range->bytes = p->vector_bytes - range->offset;
}

static void read_floats(const struct unpu_tensor *t, uint64_t first, uint64_t count, float *out)
{
	for (uint64_t i = 0; i < count; i++) {
		uint16_t half;

		if (t->type == UNPU_TYPE_F32) {
			memcpy(&out[i], t->data + 4 * (first + i), 4);
			continue;
		}
		memcpy(&half, t->data + 2 * (first + i), 2);
		out[i] = t->type == UNPU_TYPE_F16 ? unpu_f16_float(half) : unpu_bf16_float(half);
	}
}

static uint64_t elements(const struct unpu_tensor *t)
{
	return t->dims[0] * t->dims[1];
}

/* All of t, then zeros up to padded floats in all. */
static void vector_add(struct packer *p, const struct unpu_tensor *t, uint64_t padded)
{
	if (p->vectors && t)
		read_floats(t, 0, elements(t), p->vectors + p->vector_bytes / 4);
	p->vector_bytes += 4 * padded;
}

/* Biases in the order of a source's packed rows; absent ones are zero. */
static void vector_add_bias(struct packer *p, const struct source *s,
			    const struct unpu_tensor *const *bias, uint32_t padded)
{
	for (uint32_t r = 0; p->vectors && r < padded; r++) {
		uint64_t row = r;
		uint32_t part = 0;

		if (s->interleave) {
			part = r / UNPU_PAD % 2;
			row = (uint64_t)r / (2 * UNPU_PAD) * UNPU_PAD + r % UNPU_PAD;
		} else {
			while (part + 1 < s->count && row >= tensor_rows(s->tensor[part]))
				row -= tensor_rows(s->tensor[part++]);
		}
		if (bias[part] && row < elements(bias[part]))
			read_floats(bias[part], row, 1, p->vectors + p->vector_bytes / 4 + r);
	}
	p->vector_bytes += 4ull * padded;
}

/* A table of learned positions: each row padded as x is. */
static void vector_add_rows(struct packer *p, const struct unpu_tensor *t)
{
	uint64_t k = t->dims[0], rows = tensor_rows(t), padded = unpu_pad32((uint32_t)k);

	for (uint64_t r = 0; p->vectors && r < rows; r++)
		read_floats(t, r * k, k, p->vectors + p->vector_bytes / 4 + r * padded);
	p->vector_bytes += 4 * rows * padded;
}

static void norm_vectors(struct packer *p, const struct unpu_tensor *norm,
			 const struct unpu_tensor *norm_b, uint32_t *flags)
{
	uint32_t hidden = unpu_pad32(p->w->arch->hp.hidden);

	vector_add(p, norm, hidden);
	if (norm_b) {
		*flags |= UNPU_FLAG_NORM_BIAS;
		vector_add(p, norm_b, hidden);
	}
}

static struct source qkv_source(const struct unpu_layer *l)
{
	struct source s = { 0 };

	source_add(&s, l->q);
	source_add(&s, l->k);
	source_add(&s, l->v);
	return s;
}

static struct source ffn_in_source(const struct unpu_layer *l)
{
	struct source s = { 0 };

	source_add(&s, l->gate);
	source_add(&s, l->up);
	if (l->gate) {
		s.interleave = true;
		s.rows = 2 * unpu_pad32((uint32_t)tensor_rows(l->up));
	}
	return s;
}

static struct source plain_source(const struct unpu_tensor *t)
{
	struct source s = { 0 };

	source_add(&s, t);
	return s;
}

static void qkv_vectors(struct packer *p, const struct unpu_layer *l, struct unpu_layer_weights *lw)
{
	const struct unpu_tensor *bias[3] = { l->q_b, l->k_b, l->v_b };
	struct source s = qkv_source(l);

	lw->qkv_flags = 0;
	vector_begin(p, &lw->qkv_params);
	norm_vectors(p, l->attn_norm, l->attn_norm_b, &lw->qkv_flags);
	if (l->q_b || l->k_b || l->v_b) {
		lw->qkv_flags |= UNPU_FLAG_BIAS;
		vector_add_bias(p, &s, bias, unpu_pad32(s.rows));
	}
	if (l->q_norm) {
		lw->qkv_flags |= UNPU_FLAG_QK_NORM;
		vector_add(p, l->q_norm, p->w->arch->hp.head_dim);
		vector_add(p, l->k_norm, p->w->arch->hp.head_dim);
	}
	vector_end(p, &lw->qkv_params);
}

static void ffn_in_vectors(struct packer *p, const struct unpu_layer *l,
			   struct unpu_layer_weights *lw)
{
	const struct unpu_tensor *bias[2] = { l->gate ? l->gate_b : l->up_b, l->up_b };
	struct source s = ffn_in_source(l);

	lw->ffn_in_flags = l->gate ? UNPU_FLAG_GATED : 0;
	vector_begin(p, &lw->ffn_in_params);
	norm_vectors(p, l->ffn_norm, l->ffn_norm_b, &lw->ffn_in_flags);
	if (bias[0] || bias[1]) {
		lw->ffn_in_flags |= UNPU_FLAG_BIAS;
		vector_add_bias(p, &s, bias, unpu_pad32(s.rows));
	}
	vector_end(p, &lw->ffn_in_params);
}

static void bias_vector(struct packer *p, const struct unpu_tensor *bias, struct unpu_range *range,
			uint32_t *flags)
{
	*flags = bias ? UNPU_FLAG_BIAS : 0;
	vector_begin(p, range);
	if (bias)
		vector_add(p, bias, unpu_pad32((uint32_t)elements(bias)));
	vector_end(p, range);
}

static void build_vectors(struct packer *p)
{
	const struct unpu_arch *arch = p->w->arch;

	p->vector_bytes = 0;
	for (uint32_t i = 0; i < arch->hp.layers; i++) {
		const struct unpu_layer *l = &arch->layers[i];
		struct unpu_layer_weights *lw = &p->w->layers[i];

		qkv_vectors(p, l, lw);
		bias_vector(p, l->out_b, &lw->out_params, &lw->out_flags);
		ffn_in_vectors(p, l, lw);
		bias_vector(p, l->down_b, &lw->ffn_out_params, &lw->ffn_out_flags);
	}
	p->w->head_flags = 0;
	vector_begin(p, &p->w->head_params);
	norm_vectors(p, arch->out_norm, arch->out_norm_b, &p->w->head_flags);
	vector_end(p, &p->w->head_params);
	vector_begin(p, &p->w->positions);
	if (arch->positions)
		vector_add_rows(p, arch->positions);
	vector_end(p, &p->w->positions);
}

/* ---- content ------------------------------------------------------------------------------ */

/* Pages of the mapping wholly within [from, to) go back; the file has them. */
static void drop_pages(const struct packer *p, const uint8_t *from, const uint8_t *to)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t base = (uintptr_t)p->params->mapping;
	uintptr_t first = ((uintptr_t)from + page - 1) / page * page;
	uintptr_t last = (uintptr_t)to / page * page;

	if (!base || first < base || last > base + p->params->mapping_bytes || first >= last)
		return;
	madvise((void *)first, last - first, MADV_DONTNEED);
}

/* Where tensor i of the source was read up to when the packed rows before r were. */
static const uint8_t *read_up_to(const struct source *s, uint32_t i, uint32_t r)
{
	const struct unpu_tensor *t = s->tensor[i];
	uint64_t rows = tensor_rows(t), row = s->interleave ? r / 2 : r;

	for (uint32_t before = 0; before < i && !s->interleave; before++)
		row -= tensor_rows(s->tensor[before]) < row ? tensor_rows(s->tensor[before]) : row;
	return t->data + t->bytes / rows * (row < rows ? row : rows);
}

/* A page that holds more than these rows stays, for another thread may be about to read it. */
static void drop_rows(const struct packer *p, const struct source *s, uint32_t from, uint32_t to)
{
	for (uint32_t i = 0; i < s->count; i++)
		drop_pages(p, read_up_to(s, i, from), read_up_to(s, i, to));
}

/* How the rows of one matrix are cut and where they are written. */
struct piece {
	uint32_t panel;			/* rows */
	uint64_t quant_step, scale_step;	/* bytes of a panel */
	uint32_t panels;		/* that are written at once */
	uint8_t *quants, *scales;
};

/*
 * A staged piece goes to a place of its own in the device's buffers, which has to be one where a
 * binding may begin.
 */
static void piece_init(const struct packer *p, const struct unpu_weight *w, struct piece *piece)
{
	const struct unpu_layout_info *info = unpu_layout_info(w->layout);
	uint32_t align = p->w->info.binding_align, unit = 1;
	uint64_t fit;

	piece->panel = info->panel;
	piece->quant_step = unpu_panel_bytes(w->layout, w->k);
	piece->scale_step = unpu_panel_scale_bytes(w->layout, w->k);
	fit = PIECE_BYTES / (piece->quant_step + piece->scale_step);
	piece->panels = fit ? (uint32_t)fit : 1;
	if (!p->stage)
		return;
	while (unit * piece->quant_step % align || unit * piece->scale_step % align)
		unit *= 2;
	fit = (p->stage_bytes - 4 * unpu_part_align(&p->w->info)) /
	      (piece->quant_step + piece->scale_step) / unit * unit;
	piece->panels = fit > unit ? (uint32_t)fit : unit;
}

static uint64_t piece_bytes(const struct piece *piece, uint32_t panels)
{
	return panels * (piece->quant_step + piece->scale_step);
}

/* Where the panels from `first` on are to be written. */
static int piece_begin(struct packer *p, const struct entry *e, uint32_t first, uint32_t panels,
		       struct piece *piece)
{
	const struct unpu_weight *w = e->weight;
	struct unpu_range to = { .handle = p->w->banks[e->bank] };
	uint64_t quants = w->quants.offset + first * piece->quant_step;
	uint64_t scales = w->scales.offset + first * piece->scale_step;
	int ret;

	if (!p->stage) {
		piece->quants = p->bank_ptr[e->bank] + quants;
		piece->scales = p->bank_ptr[e->bank] + scales;
		return 0;
	}
	ret = unpu_stage_room(p->stage, piece_bytes(piece, panels), 2);
	if (ret)
		return ret;
	to.offset = quants;
	to.bytes = panels * piece->quant_step;
	piece->quants = unpu_stage_piece(p->stage, &to);
	to.offset = scales;
	to.bytes = panels * piece->scale_step;
	piece->scales = to.bytes ? unpu_stage_piece(p->stage, &to) : NULL;
	return 0;
}

static void pack_rows(const struct entry *e, uint32_t row, uint32_t panels, struct piece *piece)
{
	for (uint32_t n = 0; n < panels; n++, row += piece->panel) {
		struct unpu_pack_row src[UNPU_PANEL_MAX];

		for (uint32_t i = 0; i < piece->panel; i++)
			src[i] = source_row(&e->source, row + i);
		unpu_pack_panel(e->weight->layout, src, e->source.k, piece->quants, piece->scales);
		piece->quants += piece->quant_step;
		if (piece->scales)
			piece->scales += piece->scale_step;
	}
}

static uint32_t packed_rows(const struct entry *e)
{
	uint32_t rows = e->source.rows;

	return unpu_layout_info(e->weight->layout)->packed ? unpu_pad32(rows) : rows;
}

/* Matrices are cut into pieces that are numbered throughout; returns how many there are. */
static uint32_t count_pieces(struct packer *p)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < p->num_entries; i++) {
		struct entry *e = &p->entries[i];
		uint32_t panels;
		struct piece piece;

		piece_init(p, e->weight, &piece);
		panels = packed_rows(e) / piece.panel;
		e->panels = piece.panels;
		e->first = count;
		count += (panels + piece.panels - 1) / piece.panels;
	}
	return count;
}

static const struct entry *entry_of(const struct packer *p, uint32_t index)
{
	uint32_t low = 0, high = p->num_entries;

	while (high - low > 1) {
		uint32_t mid = (low + high) / 2;

		if (p->entries[mid].first <= index)
			low = mid;
		else
			high = mid;
	}
	return &p->entries[low];
}

static int pack_piece(void *arg, uint32_t index)
{
	struct packer *p = arg;
	const struct entry *e = entry_of(p, index);
	uint32_t at = (index - e->first) * e->panels, panels;
	struct piece piece;
	int ret;

	piece_init(p, e->weight, &piece);
	panels = packed_rows(e) / piece.panel - at;
	if (panels > e->panels)
		panels = e->panels;
	ret = piece_begin(p, e, at, panels, &piece);
	if (ret)
		return ret;
	pack_rows(e, at * piece.panel, panels, &piece);
	drop_rows(p, &e->source, at * piece.panel, (at + panels) * piece.panel);
	atomic_fetch_add(&p->done, piece_bytes(&piece, panels));
	return 0;
}

static int report(void *arg)
{
	struct packer *p = arg;
	const struct unpu_pack_params *params = p->params;
	uint64_t done = atomic_load(&p->done);

	if (!params->progress || done == p->reported)
		return 0;
	p->reported = done;
	return params->progress(params->progress_arg, done, p->total) ? -ECANCELED : 0;
}

/* Memory of the process is filled by as many threads as will read it. */
static int pack_entries(struct packer *p)
{
	const struct unpu_crew_work work = { count_pieces(p), pack_piece, report, p };
	int ret;

	for (uint32_t i = 0; i < p->num_entries; i++)
		p->total += p->entries[i].weight->quants.bytes + p->entries[i].weight->scales.bytes;
	ret = unpu_crew_run(&work, in_process(&p->w->info) ? p->w->info.units : 1);
	for (uint32_t i = 0; i < p->num_entries; i++)
		drop_rows(p, &p->entries[i].source, 0, packed_rows(&p->entries[i]));
	return ret ? ret : report(p);
}

static int create_bank(struct packer *p, uint32_t i)
{
	struct drm_unpu_bo_create bo = { .size = p->bank_bytes[i],
					 .flags = p->stage ? 0 : DRM_UNPU_BO_MMAP };
	struct unpu_device *dev = p->w->dev;
	void *ptr;
	int ret;

	ret = dev->ops->bo_create(dev, &bo);
	if (ret)
		return ret;
	p->w->banks[p->w->num_banks++] = bo.handle;
	p->w->bytes += bo.size;
	if (p->stage)
		return 0;
	ret = dev->ops->bo_map(dev, bo.handle, &ptr);
	if (ret)
		return ret;
	p->bank_ptr[i] = ptr;
	return 0;
}

static void unmap_banks(struct packer *p)
{
	struct unpu_device *dev = p->w->dev;

	for (uint32_t i = 0; i < p->num_banks; i++)
		if (p->bank_ptr[i])
			dev->ops->bo_unmap(dev, p->w->banks[i], p->bank_ptr[i], p->bank_bytes[i]);
}

/* ---- the whole ---------------------------------------------------------------------------- */

static bool takes_layout(const struct drm_unpu_dev_info *info, uint32_t layout)
{
	for (uint32_t i = 0; i < info->num_matrices && i < DRM_UNPU_MAX_MATRICES; i++)
		if (info->matrices[i].layout == layout)
			return true;
	return false;
}

/*
 * An embedding table that no head shares is read one row a token: where the device can, it stays in
 * the file's pages.
 */
static int import_embed(struct packer *p)
{
	struct unpu_weights *w = p->w;
	const struct unpu_tensor *t = w->arch->embed;
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t base = (uintptr_t)t->data / page * page;
	uint64_t offset = (uintptr_t)t->data - base;
	static const uint8_t layouts[] = {
		[UNPU_TYPE_F32] = DRM_UNPU_LAYOUT_GGUF_F32,
		[UNPU_TYPE_F16] = DRM_UNPU_LAYOUT_GGUF_F16,
		[UNPU_TYPE_BF16] = DRM_UNPU_LAYOUT_GGUF_BF16,
		[UNPU_TYPE_Q8_0] = DRM_UNPU_LAYOUT_GGUF_Q8_0,
		[UNPU_TYPE_Q4_0] = DRM_UNPU_LAYOUT_GGUF_Q4_0,
	};

	if (!w->dev->ops->bo_import || !p->params->mapping || offset % w->info.binding_align ||
	    t->type >= sizeof(layouts) || !unpu_layout_holds(layouts[t->type], t->type) ||
	    !takes_layout(&w->info, layouts[t->type]))
		return -ENOTSUP;
	if (w->dev->ops->bo_import(w->dev, (void *)base, offset + t->bytes, 0, &w->import))
		return -ENOTSUP;
	w->embed = (struct unpu_weight){
		.layout = layouts[t->type], .rows = w->arch->hp.vocab, .k = w->arch->hp.hidden,
		.quants = { .handle = w->import, .offset = offset, .bytes = t->bytes },
	};
	return 0;
}

static int place_all(struct packer *p)
{
	struct unpu_weights *w = p->w;
	const struct unpu_arch *arch = w->arch;
	struct source s;
	int ret = 0;

	for (uint32_t i = 0; i < arch->hp.layers && !ret; i++) {
		const struct unpu_layer *l = &arch->layers[i];
		struct unpu_layer_weights *lw = &w->layers[i];

		s = qkv_source(l);
		ret = place_weight(p, &s, &lw->qkv);
		s = plain_source(l->out);
		ret = ret ? ret : place_weight(p, &s, &lw->out);
		s = ffn_in_source(l);
		ret = ret ? ret : place_weight(p, &s, &lw->ffn_in);
		s = plain_source(l->down);
		ret = ret ? ret : place_weight(p, &s, &lw->ffn_out);
	}
	s = plain_source(arch->head);
	ret = ret ? ret : place_weight(p, &s, &w->head);
	if (ret || arch->head == arch->embed)
		return ret;
	s = plain_source(arch->embed);
	return import_embed(p) ? place_weight(p, &s, &w->embed) : 0;
}

static int place_vectors(struct packer *p)
{
	struct unpu_range all;

	build_vectors(p);
	if (place(p, p->vector_bytes, &p->vector_bank, &all))
		return unpu_fail(&p->w->log, -E2BIG, "%s has no room for the model's vectors",
				 p->w->dev->id);
	p->vectors_at = all.offset;
	return 0;
}

static void finish_range(struct unpu_range *range, uint32_t handle, uint64_t offset)
{
	range->handle = handle;
	range->offset += offset;
}

/* Ranges learn the handles of their banks, and vectors where their block begins. */
static void finish_ranges(struct packer *p)
{
	struct unpu_weights *w = p->w;
	uint32_t handle = w->banks[p->vector_bank];

	for (uint32_t i = 0; i < p->num_entries; i++) {
		p->entries[i].weight->quants.handle = w->banks[p->entries[i].bank];
		p->entries[i].weight->scales.handle = w->banks[p->entries[i].bank];
	}
	for (uint32_t i = 0; i < w->arch->hp.layers; i++) {
		finish_range(&w->layers[i].qkv_params, handle, p->vectors_at);
		finish_range(&w->layers[i].out_params, handle, p->vectors_at);
		finish_range(&w->layers[i].ffn_in_params, handle, p->vectors_at);
		finish_range(&w->layers[i].ffn_out_params, handle, p->vectors_at);
	}
	finish_range(&w->head_params, handle, p->vectors_at);
	finish_range(&w->positions, handle, p->vectors_at);
	if (w->arch->head == w->arch->embed)
		w->embed = w->head;
}

/* ---- files of packed weights ---------------------------------------------------------------- */

static void add_words(uint64_t hash[2], const uint64_t *words, size_t count)
{
	for (uint64_t i = 0; i < 2; i++) {
		const uint64_t key[2] = { hash[i], i };

		hash[i] = unpu_hash_bytes(key, words, count * sizeof(*words));
	}
}

/* Every instruction set's twins, plain C at least, run the layouts of all others. */
static void take_isa(struct unpu_weights *w, const struct unpu_cpu_isa *isa)
{
	if (isa && !strcmp(w->dev->id, "cpu"))
		w->info.num_matrices = unpu_cpu_isa_matrices(isa->mask, w->info.matrices);
}

/* Two machines that have the same key have the same bytes in their banks. */
static void describe(struct packer *p)
{
	struct unpu_packed_key *key = &p->w->key;
	const uint64_t vectors[] = { p->vector_bank, p->vectors_at, p->vector_bytes };

	key->gguf = p->params->gguf;
	key->stamp = p->params->stamp;
	key->isa = unpu_cpu_isa_of(p->w->info.matrices, p->w->info.num_matrices);
	key->num_banks = p->num_banks;
	memcpy(key->bank_bytes, p->bank_bytes, sizeof(key->bank_bytes));
	add_words(key->places, vectors, 3);
	for (uint32_t i = 0; i < p->num_entries; i++) {
		const struct unpu_weight *w = p->entries[i].weight;
		const uint64_t words[] = {
			w->layout, w->rows, w->k, p->entries[i].bank, w->quants.offset,
			w->quants.bytes, w->scales.offset, w->scales.bytes,
		};

		add_words(key->places, words, sizeof(words) / sizeof(words[0]));
	}
}

/* The banks are pages of a file then, and nothing is left to be done. */
static int import_banks(struct packer *p)
{
	struct unpu_weights *w = p->w;
	struct unpu_device *dev = w->dev;

	for (uint32_t i = 0; i < p->num_banks; i++) {
		int ret = dev->ops->bo_import(dev, w->packed.map + w->packed.bank_at[i],
					      p->bank_bytes[i], 0, &w->banks[i]);
		if (ret)
			return ret;
		w->num_banks++;
		w->bytes += p->bank_bytes[i];
	}
	return 0;
}

/* 1: they are to be packed. */
static int take_packed(struct packer *p)
{
	const char *why;

	if (!p->params->packed)
		return 1;
	why = in_process(&p->w->info) && p->w->dev->ops->bo_import ?
	      unpu_packed_map(p->params->packed_fd, &p->w->key, &p->w->packed) :
	      "is for devices in this process's memory";
	if (!why)
		return import_banks(p);
	unpu_log(&p->w->log, UNPU_LOG_WARN, "the file of packed weights %s: packing them", why);
	return 1;
}

static int check_heap(const struct packer *p)
{
	const struct drm_unpu_dev_info *info = &p->w->info;
	uint64_t heap = p->stage ? info->heap_device_bytes : info->heap_window_bytes, bytes = 0;

	for (uint32_t i = 0; i < p->num_banks; i++)
		bytes += p->bank_bytes[i];
	if (bytes <= heap)
		return 0;
	return unpu_fail(&p->w->log, -ENOSPC, "the model's weights (%llu MiB) do not fit %s "
			 "(%llu MiB)", (unsigned long long)bytes >> 20, p->w->dev->id,
			 (unsigned long long)heap >> 20);
}

/* The vectors as they lie in their bank, through the stage. */
static int stage_vectors(struct packer *p)
{
	const uint8_t *from = (const uint8_t *)p->vectors;
	struct unpu_range to = { .handle = p->w->banks[p->vector_bank], .offset = p->vectors_at };
	uint64_t left = p->vector_bytes;
	int ret = 0;

	while (left && !ret) {
		to.bytes = left < p->stage_bytes / 2 ? left : p->stage_bytes / 2;
		ret = unpu_stage_room(p->stage, to.bytes, 1);
		if (!ret)
			memcpy(unpu_stage_piece(p->stage, &to), from, to.bytes);
		from += to.bytes;
		to.offset += to.bytes;
		left -= to.bytes;
	}
	return ret;
}

static int pack_vectors(struct packer *p)
{
	uint64_t bytes = p->vector_bytes;
	int ret;

	if (!p->stage) {
		p->vectors = (float *)(void *)(p->bank_ptr[p->vector_bank] + p->vectors_at);
		build_vectors(p);
		return 0;
	}
	p->vectors = calloc(1, bytes);
	if (!p->vectors)
		return unpu_fail(&p->w->log, -ENOMEM, "no memory for the model's vectors");
	build_vectors(p);
	ret = stage_vectors(p);
	free(p->vectors);
	return ret;
}

static uint64_t stage_bytes(const struct packer *p)
{
	uint64_t most = p->stage_bytes, align = unpu_part_align(&p->w->info);

	for (uint32_t i = 0; i < p->num_entries; i++) {
		struct piece piece;
		uint64_t bytes;

		piece_init(p, p->entries[i].weight, &piece);
		bytes = piece_bytes(&piece, piece.panels) + 4 * align;
		most = bytes > most ? bytes : most;
	}
	return align_up(most, align);
}

static int create_stage(struct packer *p)
{
	int ret = -ENOSPC;

	for (p->stage_bytes = STAGE_BYTES; p->stage_bytes >= LEAST_STAGE_BYTES;
	     p->stage_bytes /= 2) {
		ret = unpu_stage_init(p->stage, p->w, stage_bytes(p));
		if (ret != -ENOSPC && ret != -ENOMEM)
			break;
		unpu_stage_finish(p->stage);
	}
	return ret;
}

static int pack_all(struct packer *p)
{
	int ret;

	p->num_banks = 1;
	ret = place_all(p);
	ret = ret ? ret : place_vectors(p);
	ret = ret ? ret : check_heap(p);
	if (ret)
		return ret;
	describe(p);
	ret = take_packed(p);
	if (!ret)
		finish_ranges(p);
	if (ret != 1)
		return ret;
	ret = 0;
	if (p->stage)
		ret = create_stage(p);
	for (uint32_t i = 0; i < p->num_banks && !ret; i++)
		ret = create_bank(p, i);
	ret = ret ? ret : pack_vectors(p);
	ret = ret ? ret : pack_entries(p);
	if (!ret && p->stage)
		ret = unpu_stage_flush(p->stage);
	if (!ret)
		finish_ranges(p);
	return ret;
}

int unpu_weights_create(struct unpu_device *dev, const struct unpu_arch *arch,
			const struct unpu_pack_params *params, const struct unpu_log *log,
			struct unpu_weights **weights)
{
	struct packer p = { .params = params };
	struct unpu_stage stage = { 0 };
	struct unpu_weights *w = calloc(1, sizeof(*w));
	struct drm_unpu_dev_query query = { .type = DRM_UNPU_QUERY_DEV_INFO,
					    .size = sizeof(w->info) };
	int ret;

	if (!w)
		return unpu_fail(log, -ENOMEM, "no memory for the list of weights");
	w->dev = dev;
	w->arch = arch;
	w->log = log ? *log : (struct unpu_log){ 0 };
	p.w = w;
	w->layers = calloc(arch->hp.layers, sizeof(*w->layers));
	p.entries = calloc(4ull * arch->hp.layers + 2, sizeof(*p.entries));
	if (!w->layers || !p.entries) {
		ret = unpu_fail(log, -ENOMEM, "no memory for the list of weights");
		goto out;
	}
	query.pointer = (uintptr_t)&w->info;
	ret = dev->ops->dev_query(dev, &query);
	if (ret)
		goto out;
	take_isa(w, params->isa);
	p.stage = is_staged(&w->info) ? &stage : NULL;
	ret = pack_all(&p);
	unmap_banks(&p);
	unpu_stage_finish(&stage);
out:
	free(p.entries);
	if (ret)
		unpu_weights_destroy(w);
	else
		*weights = w;
	return ret;
}

static void unmap_all(const struct unpu_weights *w, const uint8_t *const bank[UNPU_MAX_BANKS])
{
	for (uint32_t i = 0; i < w->num_banks && !w->packed.map; i++)
		if (bank[i])
			w->dev->ops->bo_unmap(w->dev, w->banks[i], (void *)bank[i],
					      w->key.bank_bytes[i]);
}

int unpu_weights_write(const struct unpu_weights *w, int fd)
{
	const uint8_t *bank[UNPU_MAX_BANKS] = { NULL };
	int ret = 0;

	if (!in_process(&w->info) || !w->key.gguf)
		return unpu_fail(&w->log, -ENOTSUP, "%s has no packed weights that a file could "
				 "hold", w->dev->id);
	for (uint32_t i = 0; i < w->num_banks && !ret; i++) {
		void *ptr = w->packed.map + w->packed.bank_at[i];

		if (!w->packed.map)
			ret = w->dev->ops->bo_map(w->dev, w->banks[i], &ptr);
		bank[i] = ret ? NULL : ptr;
	}
	ret = ret ? ret : unpu_packed_write(fd, &w->key, bank);
	unmap_all(w, bank);
	return ret ? unpu_fail(&w->log, ret, "cannot write the packed weights: %s",
			       strerror(-ret)) : 0;
}

void unpu_weights_release(struct unpu_weights *w)
{
	for (uint32_t i = 0; i < w->num_banks; i++)
		w->dev->ops->bo_close(w->dev, w->banks[i]);
	w->num_banks = 0;
	if (w->import)
		w->dev->ops->bo_close(w->dev, w->import);
	w->import = 0;
}

void unpu_weights_destroy(struct unpu_weights *w)
{
	if (!w)
		return;
	unpu_weights_release(w);
	unpu_packed_unmap(&w->packed);
	free(w->layers);
	free(w);
}
