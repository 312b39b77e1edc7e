/* SPDX-License-Identifier: MIT */
/*
 * The KV cache out of and into a device, whose memory need not be mappable: `copy` brings it to a
 * mapped buffer and back. Cells of one head lie one after the other on the device and in a file, so
 * a piece of those is what is copied.
 */
#include <string.h>

#include "runtime/session/kv.h"

#define STAGING_BYTES	(1u << 20)
#define MAX_PIECES	64u	/* of one program */

/* Planes of K or V in a file: values, and of an int8 cache their scales. */
enum plane { VALUES, SCALES, PLANES };

/* Where the next piece begins, in the order of the file. */
struct walk {
	const struct unpu_session *s;
	uint32_t positions;
	uint32_t layer, half, plane, head;	/* half: 0 is K, 1 is V */
	uint64_t at;				/* bytes of this head that are done */
};

struct piece {
	struct unpu_copy copy;		/* src: the cache; dst: staging */
	enum plane plane;
};

struct mover {
	struct unpu_session *s;
	struct unpu_compiler compiler;
	struct unpu_area staging;
	struct walk walk;
	struct piece pieces[MAX_PIECES];
	uint32_t num_pieces;
};

static uint32_t cell_bytes(const struct walk *w)
{
	uint32_t type = w->s->work.shape.kv_type, d = w->s->model->arch->hp.head_dim;

	return w->plane == SCALES ? unpu_kv_scale_bytes(type, d) : unpu_kv_cell_bytes(type, d);
}

/* Of slot 0's first cell of the head. */
static uint64_t head_offset(const struct walk *w)
{
	const struct unpu_hparams *hp = &w->s->model->arch->hp;
	const struct unpu_shape *shape = &w->s->work.shape;
	uint64_t cells = (uint64_t)shape->slots * shape->cells;
	uint64_t offset = w->layer * (w->s->work.kv.bytes / hp->layers);

	if (w->plane == SCALES)
		offset += 2 * hp->kv_heads * cells *
			  unpu_kv_cell_bytes(shape->kv_type, hp->head_dim);
	return offset + (w->half * hp->kv_heads + w->head) * cells * cell_bytes(w);
}

/* The head is done: the next one in the order of the file. */
static void step(struct walk *w)
{
	const struct unpu_hparams *hp = &w->s->model->arch->hp;

	w->at = 0;
	if (++w->head < hp->kv_heads)
		return;
	w->head = 0;
	if (++w->plane < PLANES)
		return;
	w->plane = VALUES;
	if (++w->half < 2)
		return;
	w->half = 0;
	w->layer++;
}

/* The next piece, of at most `room` bytes (a multiple of what bindings are aligned to). */
static bool next_piece(struct walk *w, uint64_t room, struct piece *p)
{
	const struct unpu_range *kv = &w->s->work.kv;
	uint64_t bytes;

	while (w->layer < w->s->model->arch->hp.layers &&
	       w->at == (uint64_t)w->positions * cell_bytes(w))
		step(w);
	if (w->layer == w->s->model->arch->hp.layers)
		return false;
	bytes = (uint64_t)w->positions * cell_bytes(w) - w->at;
	bytes = bytes < room ? bytes : room;
	p->plane = w->plane;
	p->copy.src = (struct unpu_range){ kv->handle, kv->offset + head_offset(w) + w->at, bytes };
	p->copy.dst.bytes = bytes;
	w->at += bytes;
	return true;
}

/* As many pieces as the staging buffer holds, each of them at its place there. */
static void next_pieces(struct mover *m)
{
	uint64_t align = unpu_part_align(&m->s->weights->info), at = 0;
	uint64_t end = m->staging.bytes / align * align;

	for (m->num_pieces = 0; m->num_pieces < MAX_PIECES && at < end; m->num_pieces++) {
		struct piece *p = &m->pieces[m->num_pieces];

		if (!next_piece(&m->walk, end - at, p))
			break;
		p->copy.dst.handle = m->staging.handle;
		p->copy.dst.offset = at;
		at += (p->copy.dst.bytes + align - 1) / align * align;
	}
}

/* The pieces between cache and staging buffer. */
static int run_copies(struct mover *m, bool in)
{
	struct drm_unpu_program_destroy program = { 0 };
	struct unpu_copy copies[MAX_PIECES];
	int ret;

	for (uint32_t i = 0; i < m->num_pieces; i++) {
		const struct unpu_copy *c = &m->pieces[i].copy;

		copies[i] = in ? (struct unpu_copy){ c->dst, c->src } : *c;
	}
	ret = unpu_compile_copies(&m->compiler, copies, m->num_pieces, &program.program_id);
	if (ret)
		return ret == -ENOMEM ? ret : -EIO;
	ret = unpu_session_run_id(m->s, program.program_id, 1);
	m->s->dev->ops->program_destroy(m->s->dev, &program);
	return ret;
}

static int put_pieces(struct mover *m, struct unpu_file *f)
{
	int ret = 0;

	for (uint32_t i = 0; i < m->num_pieces && !ret; i++) {
		const struct unpu_range *r = &m->pieces[i].copy.dst;

		ret = unpu_file_put(f, m->staging.ptr + r->offset, (size_t)r->bytes);
	}
	return ret;
}

static int get_pieces(struct mover *m, struct unpu_file *f)
{
	int ret = 0;

	for (uint32_t i = 0; i < m->num_pieces && !ret; i++) {
		const struct piece *p = &m->pieces[i];
		uint8_t *bytes = m->staging.ptr + p->copy.dst.offset;
		uint32_t type = p->plane == SCALES ? DRM_UNPU_KV_F16 : m->s->work.shape.kv_type;

		ret = unpu_file_get(f, bytes, (size_t)p->copy.dst.bytes);
		if (!ret && !unpu_kv_values_fit(type, bytes, (size_t)p->copy.dst.bytes))
			ret = -ERANGE;
	}
	return ret;
}

static int move(struct mover *m, bool in, struct unpu_file *f, int *file_err)
{
	int ret = 0;

	next_pieces(m);
	while (m->num_pieces && !ret && !*file_err) {
		if (in)
			*file_err = get_pieces(m, f);
		if (!*file_err)
			ret = run_copies(m, in);
		if (!in && !ret)
			*file_err = put_pieces(m, f);
		next_pieces(m);
	}
	return ret;
}

/* On a device that holds them; UNPU_MOVED: it is left, and so are they. */
static int mover_run(struct unpu_session *s, uint32_t positions, bool in, struct unpu_file *f,
		     int *file_err)
{
	struct mover m = {
		.s = s,
		.staging = { .bytes = s->work.kv.bytes < STAGING_BYTES ? s->work.kv.bytes :
									   STAGING_BYTES },
		.walk = { .s = s, .positions = positions },
	};
	int ret;

	*file_err = 0;
	unpu_compiler_init(&m.compiler, s->weights, &s->work);
	ret = unpu_area_create(s, &m.staging, true);
	if (!ret)
		ret = move(&m, in, f, file_err);
	unpu_compiler_finish(&m.compiler);
	unpu_area_destroy(s, &m.staging);
	if (ret && !s->home->last && !s->blamed)
		unpu_session_blame(s, ret, "%s: %s", s->dev->id, strerror(-ret));
	ret = unpu_session_settle(s, ret);
	return ret == -ENOSPC ? -ENOMEM : ret;	/* -ENOSPC would be the disk's or the context's */
}

int unpu_kv_save(struct unpu_session *s, uint32_t positions, struct unpu_file *f, int *file_err)
{
	int ret = mover_run(s, positions, false, f, file_err);

	if (!ret && !*file_err)
		*file_err = unpu_file_end(f);
	return ret;
}

int unpu_kv_load(struct unpu_session *s, uint32_t positions, struct unpu_file *f, int *file_err)
{
	int ret = mover_run(s, positions, true, f, file_err);

	if (!ret && !*file_err)
		*file_err = unpu_file_check(f);
	return ret;
}

/* ---- what made it -------------------------------------------------------------------------- */

static uint32_t weight_classes(const struct unpu_weights *w)
{
	uint32_t classes = 0;

	for (uint32_t i = 0; i < w->arch->hp.layers; i++) {
		const struct unpu_layer_weights *lw = &w->layers[i];

		classes |= 1u << lw->qkv.numeric | 1u << lw->out.numeric |
			   1u << lw->ffn_in.numeric | 1u << lw->ffn_out.numeric;
	}
	return classes;
}

void unpu_kv_describe(struct unpu_session *s, struct unpu_session_head *head)
{
	const struct unpu_hparams *hp = &s->model->arch->hp;

	head->kv_type = s->work.shape.kv_type;
	head->classes = weight_classes(s->weights);
	head->layers = hp->layers;
	head->kv_heads = hp->kv_heads;
	head->head_dim = hp->head_dim;
}
