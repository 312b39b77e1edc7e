/* SPDX-License-Identifier: MIT */
#include "train/net_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/gemm.h"

/* ---- parameters --------------------------------------------------------------------------- */

static size_t add_param(struct unpu_net *net, int32_t layer, const char *name, uint32_t rows,
			uint32_t columns)
{
	struct unpu_param *p = &net->params[net->num_params++];

	if (layer < 0)
		snprintf(p->name, sizeof(p->name), "%s.weight", name);
	else
		snprintf(p->name, sizeof(p->name), "blk.%d.%s.weight", layer, name);
	p->at = net->floats;
	p->rows = rows;
	p->columns = columns;
	p->layer = layer;
	net->floats += (size_t)rows * columns;
	return p->at;
}

static void add_layer(struct unpu_net *net, int32_t i)
{
	const struct unpu_net_shape *s = &net->shape;
	struct unpu_net_layer *l = &net->layers[i];
	uint32_t kv = s->kv_heads * s->head_dim;

	l->attn_norm = add_param(net, i, "attn_norm", 1, s->hidden);
	l->qkv = add_param(net, i, "attn_q", unpu_net_q(s), s->hidden);
	add_param(net, i, "attn_k", kv, s->hidden);
	add_param(net, i, "attn_v", kv, s->hidden);
	l->out = add_param(net, i, "attn_output", s->hidden, unpu_net_q(s));
	l->ffn_norm = add_param(net, i, "ffn_norm", 1, s->hidden);
	l->gate_up = add_param(net, i, "ffn_gate", s->ffn, s->hidden);
	add_param(net, i, "ffn_up", s->ffn, s->hidden);
	l->down = add_param(net, i, "ffn_down", s->hidden, s->ffn);
}

static void add_params(struct unpu_net *net)
{
	const struct unpu_net_shape *s = &net->shape;

	net->embed = add_param(net, -1, "token_embd", s->vocab, s->hidden);
	for (uint32_t i = 0; i < s->layers; i++)
		add_layer(net, (int32_t)i);
	net->out_norm = add_param(net, -1, "output_norm", 1, s->hidden);
	net->head = s->tied ? net->embed : add_param(net, -1, "output", s->vocab, s->hidden);
}

/* ---- creation ------------------------------------------------------------------------------ */

static int check_shape(const struct unpu_net_shape *s, const struct unpu_log *log)
{
	const struct {
		const char *name;
		uint32_t value, most;
	} counts[] = {
		{ "layers", s->layers, 256 },
		{ "hidden", s->hidden, 8192 },
		{ "heads", s->heads, 256 },
		{ "kv-heads", s->kv_heads, 256 },
		{ "head size", s->head_dim, 512 },
		{ "ffn", s->ffn, 65536 },
		{ "vocab", s->vocab, 1u << 20 },
		{ "context", s->context, 65536 },
	};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		if (!counts[i].value || counts[i].value > counts[i].most)
			return unpu_fail(log, -EINVAL, "%s is %u, which is not within 1 to %u",
					 counts[i].name, counts[i].value, counts[i].most);
	if (s->heads % s->kv_heads)
		return unpu_fail(log, -EINVAL, "%u heads cannot share %u kv-heads evenly",
				 s->heads, s->kv_heads);
	if (s->head_dim % 2)
		return unpu_fail(log, -EINVAL, "a head size of %u is odd", s->head_dim);
	return 0;
}

static void fill_rope(struct unpu_net *net)
{
	const uint32_t half = net->shape.head_dim / 2;

	for (uint32_t t = 0; t < net->shape.context; t++) {
		for (uint32_t i = 0; i < half; i++) {
			double angle = t * pow(net->shape.rope_base, -(double)i / half);

			net->cosines[t * half + i] = (float)cos(angle);
			net->sines[t * half + i] = (float)sin(angle);
		}
	}
}

static uint32_t most(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* Rows of attention weights and their gradients, beside a tile of a product. */
static int create_team(struct unpu_net *net, uint32_t threads, uint32_t cpu_mask)
{
	const struct unpu_net_shape *s = &net->shape;
	struct unpu_team *team = &net->team;
	uint32_t widest = most(most(s->vocab, 2 * s->ffn), most(s->hidden, unpu_net_qkv(s)));
	int err = unpu_team_start(team, threads);
	size_t own;

	if (err)
		return err;
	team->ops = unpu_train_ops_get(cpu_mask);
	own = unpu_gemm_own_floats(team->ops) + 4 * (size_t)s->context;
	for (int i = 0; i < 2; i++)
		team->packed[i] = aligned_alloc(64, (unpu_gemm_packed_floats(team->ops, widest) *
						     sizeof(float) + 63) / 64 * 64);
	team->own = calloc(team->threads, sizeof(*team->own));
	if (!team->packed[0] || !team->packed[1] || !team->own)
		return -ENOMEM;
	for (uint32_t i = 0; i < team->threads; i++) {
		team->own[i] = aligned_alloc(64, (own * sizeof(float) + 63) / 64 * 64);
		if (!team->own[i])
			return -ENOMEM;
	}
	return 0;
}

static void destroy_team(struct unpu_team *team)
{
	unpu_team_stop(team);
	for (uint32_t i = 0; team->own && i < team->threads; i++)
		free(team->own[i]);
	free(team->own);
	free(team->packed[0]);
	free(team->packed[1]);
}

static int allocate(struct unpu_net *net)
{
	const struct unpu_net_shape *s = &net->shape;
	size_t angles = (size_t)s->context * (s->head_dim / 2);

	net->params = calloc(3 + 9ull * s->layers, sizeof(*net->params));
	net->layers = calloc(s->layers, sizeof(*net->layers));
	net->cosines = malloc(angles * sizeof(float));
	net->sines = malloc(angles * sizeof(float));
	if (!net->params || !net->layers || !net->cosines || !net->sines)
		return -ENOMEM;
	fill_rope(net);
	add_params(net);
	net->weights = calloc(net->floats, sizeof(float));
	net->grads = calloc(net->floats, sizeof(float));
	net->moments[0] = calloc(net->floats, sizeof(float));
	net->moments[1] = calloc(net->floats, sizeof(float));
	net->partial = calloc(net->floats / UNPU_NET_CHUNK + net->num_params + 1, sizeof(double));
	return net->weights && net->grads && net->moments[0] && net->moments[1] &&
	       net->partial ? 0 : -ENOMEM;
}

int unpu_net_create(const struct unpu_net_shape *shape, uint32_t threads, uint32_t cpu_mask,
		    const struct unpu_log *log, struct unpu_net **out)
{
	struct unpu_net *net;
	int err = check_shape(shape, log);

	if (err)
		return err;
	net = calloc(1, sizeof(*net));
	if (!net)
		return unpu_fail(log, -ENOMEM, "no memory for a network");
	net->shape = *shape;
	if (log)
		net->log = *log;
	err = allocate(net);
	if (!err)
		err = create_team(net, threads, cpu_mask);
	if (err) {
		unpu_net_destroy(net);
		return unpu_fail(log, err, "no memory for a network of %u layers",
				 shape->layers);
	}
	*out = net;
	return 0;
}

void unpu_net_destroy(struct unpu_net *net)
{
	if (!net)
		return;
	destroy_team(&net->team);
	free(net->params);
	free(net->layers);
	free(net->cosines);
	free(net->sines);
	free(net->weights);
	free(net->grads);
	free(net->moments[0]);
	free(net->moments[1]);
	free(net->partial);
	free(net->rows);
	free(net->pick);
	free(net->row_right);
	free(net);
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* Whole cache lines, so that threads' rows begin on lines of their own. */
static float *take(float *base, size_t *at, size_t floats)
{
	float *p = base ? base + *at : NULL;

	*at += (floats + 15) / 16 * 16;
	return p;
}

/* Lays all of it out, or with base NULL only counts; returns how many floats it takes. */
static size_t lay_out(struct unpu_net *net, float *base, size_t rows)
{
	const struct unpu_net_shape *s = &net->shape;
	uint32_t wide = most(s->ffn, unpu_net_qkv(s));
	size_t at = 0;

	for (uint32_t i = 0; i < s->layers; i++) {
		struct unpu_net_layer *l = &net->layers[i];

		l->x = take(base, &at, rows * s->hidden);
		l->norm1 = take(base, &at, rows * s->hidden);
		l->qkv_rows = take(base, &at, rows * unpu_net_qkv(s));
		l->att = take(base, &at, rows * unpu_net_q(s));
		l->mid = take(base, &at, rows * s->hidden);
		l->norm2 = take(base, &at, rows * s->hidden);
		l->gate_up_rows = take(base, &at, rows * 2 * s->ffn);
		/* The gradient of `att` comes here when act is done with. */
		l->act = take(base, &at, rows * most(s->ffn, unpu_net_q(s)));
		l->rstd1 = take(base, &at, rows);
		l->rstd2 = take(base, &at, rows);
		l->lse = take(base, &at, rows * s->heads);
	}
	net->x_out = take(base, &at, rows * s->hidden);
	net->x_grad = take(base, &at, rows * s->hidden);
	net->wide = take(base, &at, rows * wide);
	net->narrow = take(base, &at, rows * most(s->hidden, unpu_net_q(s)));
	net->picked = take(base, &at, rows * s->hidden);
	net->picked_grad = take(base, &at, rows * s->hidden);
	net->rstd = take(base, &at, rows);
	net->row_loss = take(base, &at, rows);
	net->logits = take(base, &at, rows * s->vocab);
	return at;
}

int unpu_net_reserve(struct unpu_net *net, uint32_t rows)
{
	size_t floats;

	if (rows <= net->capacity)
		return 0;
	floats = lay_out(net, NULL, rows);
	free(net->rows);
	free(net->pick);
	free(net->row_right);
	net->capacity = 0;
	net->rows = aligned_alloc(64, floats * sizeof(float));
	net->pick = malloc(rows * sizeof(*net->pick));
	net->row_right = malloc(rows);
	if (!net->rows || !net->pick || !net->row_right)
		return unpu_fail(&net->log, -ENOMEM, "no memory for %u tokens at once", rows);
	lay_out(net, net->rows, rows);
	net->capacity = rows;
	return 0;
}

/* ---- what there is to look at -------------------------------------------------------------- */

const struct unpu_net_shape *unpu_net_shape(const struct unpu_net *net)
{
	return &net->shape;
}

uint32_t unpu_net_num_params(const struct unpu_net *net)
{
	return net->num_params;
}

struct unpu_param *unpu_net_param(struct unpu_net *net, uint32_t i)
{
	return &net->params[i];
}

size_t unpu_net_floats(const struct unpu_net *net)
{
	return net->floats;
}

float *unpu_net_weights(struct unpu_net *net)
{
	return net->weights;
}

float *unpu_net_grads(struct unpu_net *net)
{
	return net->grads;
}

float *unpu_net_moments(struct unpu_net *net, uint32_t which)
{
	return net->moments[which];
}

void unpu_net_zero_grads(struct unpu_net *net)
{
	memset(net->grads, 0, net->floats * sizeof(float));
}

/* ---- first weights ------------------------------------------------------------------------- */

uint64_t unpu_net_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Box and Muller; one of the two is enough. */
static float normal(uint64_t *state)
{
	double u = (double)((unpu_net_random(state) >> 11) + 1) * 0x1p-53;
	double v = (double)(unpu_net_random(state) >> 11) * 0x1p-53;

	return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

static bool adds_to_stream(const struct unpu_net *net, const struct unpu_param *p)
{
	return p->layer >= 0 &&
	       (p->at == net->layers[p->layer].out || p->at == net->layers[p->layer].down);
}

void unpu_net_init_weights(struct unpu_net *net, uint64_t seed)
{
	const float less = 1 / sqrtf(2.0f * (float)net->shape.layers);

	for (uint32_t i = 0; i < net->num_params; i++) {
		const struct unpu_param *p = &net->params[i];
		float deviation = 0.02f * (adds_to_stream(net, p) ? less : 1);

		for (size_t j = 0; j < (size_t)p->rows * p->columns; j++)
			net->weights[p->at + j] = p->rows == 1 ? 1 : deviation * normal(&seed);
	}
}

/* ---- the step ------------------------------------------------------------------------------ */

struct update {
	struct unpu_net *net;
	struct unpu_adamw_step step;
};

/* Chunks of parameters that learn, by number; false: there is no such one. */
static bool find_chunk(const struct unpu_net *net, uint32_t *param, size_t *at, size_t *count)
{
	for (; *param < net->num_params; (*param)++, *at = 0) {
		const struct unpu_param *p = &net->params[*param];
		size_t all = (size_t)p->rows * p->columns;

		if (p->frozen || *at >= all)
			continue;
		*count = all - *at < UNPU_NET_CHUNK ? all - *at : UNPU_NET_CHUNK;
		return true;
	}
	return false;
}

static double square_sum(const float *g, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)g[i] * g[i];
	return sum;
}

/* Chunk c is thread c % threads', the sums are added up in the order of chunks. */
static void norm_share(void *arg, uint32_t thread)
{
	struct unpu_net *net = ((struct update *)arg)->net;
	uint32_t param = 0, chunk = 0;
	size_t at = 0, count;

	for (; find_chunk(net, &param, &at, &count); at += count, chunk++)
		if (chunk % net->team.threads == thread)
			net->partial[chunk] = square_sum(net->grads + net->params[param].at + at,
							 count);
}

static void update_share(void *arg, uint32_t thread)
{
	struct update *u = arg;
	struct unpu_net *net = u->net;
	uint32_t param = 0, chunk = 0;
	size_t at = 0, count;

	for (; find_chunk(net, &param, &at, &count); at += count, chunk++) {
		struct unpu_adamw_step step = u->step;
		size_t first = net->params[param].at + at;

		if (chunk % net->team.threads != thread)
			continue;
		if (net->params[param].rows == 1)
			step.decay = 0;
		net->team.ops->adamw(net->weights + first, net->moments[0] + first,
				     net->moments[1] + first, net->grads + first, count, &step);
	}
}

static float grad_norm(struct update *u)
{
	uint32_t param = 0, chunk = 0;
	size_t at = 0, count;
	double sum = 0;

	unpu_team_run(&u->net->team, norm_share, u);
	for (; find_chunk(u->net, &param, &at, &count); at += count)
		sum += u->net->partial[chunk++];
	return (float)sqrt(sum);
}

float unpu_net_update(struct unpu_net *net, const struct unpu_net_update *with)
{
	struct update u = {
		.net = net,
		.step = {
			.rate = with->rate, .beta1 = with->beta1, .beta2 = with->beta2,
			.eps = with->eps, .decay = with->decay, .scale = 1,
			.bias1 = (float)(1 - pow(with->beta1, (double)with->step)),
			.bias2 = (float)(1 - pow(with->beta2, (double)with->step)),
		},
	};
	float norm = grad_norm(&u);

	if (!isfinite(norm))
		return norm;
	if (with->clip > 0 && norm > with->clip)
		u.step.scale = with->clip / norm;
	unpu_team_run(&net->team, update_share, &u);
	return norm;
}
