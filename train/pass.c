/* SPDX-License-Identifier: MIT */
/*
 * Forward and backward. All threads walk the same steps; a step's rows (or columns, or heads) are
 * shared out, and a barrier stands wherever one reads what others wrote. Products have barriers of
 * their own, before they read and after they wrote.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "train/gemm.h"
#include "train/net_priv.h"

struct pass {
	struct unpu_net *net;
	const struct unpu_net_batch *batch;
	const struct unpu_net_pass *with;
	uint32_t picked;		/* rows with a target */
	uint32_t first_layer;		/* below it nothing learns */
};

struct worker {
	struct unpu_member me;
	const struct pass *pass;
	struct unpu_net *net;
	const struct unpu_net_shape *s;
	uint32_t rows;
};

static bool learns(const struct unpu_net *net, size_t at)
{
	for (uint32_t i = 0; i < net->num_params; i++)
		if (net->params[i].at == at)
			return !net->params[i].frozen;
	return false;
}

static void my_rows(const struct worker *w, size_t *first, size_t *last)
{
	unpu_member_share(&w->me, w->rows, 1, first, last);
}

/* ---- products ------------------------------------------------------------------------------ */

/* y[rows x n] = x[rows x k] . weight[n x k]^T */
static void project(const struct worker *w, const float *x, uint32_t k, size_t weight, uint32_t n,
		    uint32_t rows, float *y)
{
	unpu_gemm(&w->me, &(struct unpu_gemm){
		.m = rows, .n = n, .k = k, .a = x, .lda = k, .b = w->net->weights + weight,
		.ldb = k, .turn_b = true, .c = y, .ldc = n,
	});
}

/* dx[rows x k] = dy[rows x n] . weight[n x k] */
static void project_back(const struct worker *w, const float *dy, uint32_t n, size_t weight,
			 uint32_t k, uint32_t rows, float *dx)
{
	unpu_gemm(&w->me, &(struct unpu_gemm){
		.m = rows, .n = k, .k = n, .a = dy, .lda = n, .b = w->net->weights + weight,
		.ldb = k, .c = dx, .ldc = k,
	});
}

/* The gradient of weight[n x k] += dy[rows x n]^T . x[rows x k] */
static void project_grad(const struct worker *w, const float *dy, uint32_t n, const float *x,
			 uint32_t k, size_t weight, uint32_t rows)
{
	unpu_gemm(&w->me, &(struct unpu_gemm){
		.m = n, .n = k, .k = rows, .a = dy, .lda = n, .turn_a = true, .b = x, .ldb = k,
		.c = w->net->grads + weight, .ldc = k, .add = true,
	});
}

/* ---- dropout ------------------------------------------------------------------------------- */

/* Murmur's finaliser (Appleby, 2011) over the place: the mask is made again on the way back. */
static uint32_t mix(uint32_t h)
{
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

/* x *= mask / (1 - p); `where` tells one use of a pass from another. */
static void drop_row(const struct worker *w, uint32_t where, size_t row, float *x)
{
	const struct unpu_net_pass *with = w->pass->with;
	const uint32_t below = (uint32_t)((double)with->dropout * 0x1p32);
	const uint32_t key = mix((uint32_t)with->seed + where * 0x9e3779b9) ^
			     mix((uint32_t)(with->seed >> 32) + (uint32_t)row);
	const float keep = 1 / (1 - with->dropout);

	if (with->dropout <= 0)
		return;
	for (uint32_t i = 0; i < w->s->hidden; i++)
		x[i] = mix(key + i * 0x9e3779b9) < below ? 0 : x[i] * keep;
}

/* ---- positions ----------------------------------------------------------------------------- */

/* sign -1 turns back, which is also how a gradient goes through. */
static void rope_row(const struct worker *w, float *x, uint32_t heads, uint32_t position,
		     float sign)
{
	const uint32_t half = w->s->head_dim / 2;
	const float *cosine = w->net->cosines + (size_t)position * half;
	const float *sine = w->net->sines + (size_t)position * half;

	for (uint32_t h = 0; h < heads; h++, x += 2 * half) {
		for (uint32_t i = 0; i < half; i++) {
			float a = x[2 * i], b = x[2 * i + 1], s = sign * sine[i];

			x[2 * i] = a * cosine[i] - b * s;
			x[2 * i + 1] = a * s + b * cosine[i];
		}
	}
}

/* q and k of this thread's rows; v follows them and stays. */
static void rope(const struct worker *w, float *qkv, float sign)
{
	const uint32_t *start = w->pass->batch->starts;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++) {
		while (row >= start[1])
			start++;
		rope_row(w, qkv + row * unpu_net_qkv(w->s), w->s->heads + w->s->kv_heads,
			 (uint32_t)row - *start, sign);
	}
}

/* ---- attention ----------------------------------------------------------------------------- */

static struct unpu_attn_seq attn_seq(const struct worker *w, const struct unpu_net_layer *l,
				     uint32_t sequence, uint32_t head)
{
	const struct unpu_net_shape *s = w->s;
	const uint32_t *start = w->pass->batch->starts + sequence;
	const size_t q = unpu_net_q(s), kv = s->kv_heads * s->head_dim, stride = unpu_net_qkv(s);
	const uint32_t kv_head = head / (s->heads / s->kv_heads);
	const float *base = l->qkv_rows + *start * stride;

	return (struct unpu_attn_seq){
		.rows = start[1] - *start, .head_dim = s->head_dim,
		.q = base + head * s->head_dim, .k = base + q + kv_head * s->head_dim,
		.v = base + q + kv + kv_head * s->head_dim, .stride = stride,
		.o = l->att + *start * q + head * s->head_dim, .o_stride = q,
		.lse = l->lse + (size_t)*start * s->heads + head, .lse_stride = s->heads,
		.scratch = w->me.team->own[w->me.thread],
	};
}

static void attend(const struct worker *w, const struct unpu_net_layer *l)
{
	const uint32_t heads = w->s->heads;
	size_t item, last;

	unpu_member_share(&w->me, (size_t)w->pass->batch->num_sequences * heads, 1, &item, &last);
	for (; item < last; item++) {
		struct unpu_attn_seq seq = attn_seq(w, l, (uint32_t)(item / heads),
						    (uint32_t)(item % heads));

		w->net->team.ops->attn_forward(&seq);
	}
}

/* d_att to d_qkv. A thread has all query heads that share a kv head, whose gradients they add. */
static void attend_back(const struct worker *w, const struct unpu_net_layer *l, const float *d_att,
			float *d_qkv)
{
	const struct unpu_net_shape *s = w->s;
	const uint32_t group = s->heads / s->kv_heads;
	size_t item, last;

	unpu_member_share(&w->me, (size_t)w->pass->batch->num_sequences * s->kv_heads, 1, &item,
			  &last);
	for (; item < last; item++) {
		uint32_t sequence = (uint32_t)(item / s->kv_heads);
		uint32_t kv_head = (uint32_t)(item % s->kv_heads);

		for (uint32_t i = 0; i < group; i++) {
			struct unpu_attn_grad g = {
				.fwd = attn_seq(w, l, sequence, kv_head * group + i),
				.scratch = w->me.team->own[w->me.thread],
			};

			g.d_o = d_att + (g.fwd.o - l->att);
			g.dq = d_qkv + (g.fwd.q - l->qkv_rows);
			g.dk = d_qkv + (g.fwd.k - l->qkv_rows);
			g.dv = d_qkv + (g.fwd.v - l->qkv_rows);
			w->net->team.ops->attn_backward(&g);
		}
	}
}

/* ---- forward ------------------------------------------------------------------------------- */

static void embed(const struct worker *w)
{
	const uint32_t hidden = w->s->hidden;
	float *x = w->net->layers[0].x;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++) {
		memcpy(x + row * hidden, w->net->weights + w->net->embed +
		       (size_t)w->pass->batch->tokens[row] * hidden, hidden * sizeof(*x));
		drop_row(w, 0, row, x + row * hidden);
	}
}

static void norm_rows(const struct worker *w, const float *x, size_t weight, float *y, float *rstd)
{
	const uint32_t hidden = w->s->hidden;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++)
		rstd[row] = w->net->team.ops->norm_forward(x + row * hidden,
							   w->net->weights + weight, hidden,
							   w->s->eps, y + row * hidden);
}

/* out = x + dropout(branch) */
static void add_branch(const struct worker *w, const float *x, float *branch, uint32_t where,
		       float *out)
{
	const uint32_t hidden = w->s->hidden;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++) {
		size_t at = row * hidden;

		drop_row(w, where, row, branch + at);
		for (uint32_t i = 0; i < hidden; i++)
			out[at + i] = x[at + i] + branch[at + i];
	}
}

static void swiglu_rows(const struct worker *w, const struct unpu_net_layer *l)
{
	const uint32_t ffn = w->s->ffn;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++) {
		const float *gate = l->gate_up_rows + row * 2 * ffn;

		w->net->team.ops->swiglu_forward(gate, gate + ffn, ffn, l->act + row * ffn);
	}
}

static float *layer_out(const struct worker *w, uint32_t layer)
{
	return layer + 1 < w->s->layers ? w->net->layers[layer + 1].x : w->net->x_out;
}

static void layer_forward(const struct worker *w, uint32_t layer)
{
	const struct unpu_net_shape *s = w->s;
	struct unpu_net_layer *l = &w->net->layers[layer];
	float *branch = w->net->narrow;

	norm_rows(w, l->x, l->attn_norm, l->norm1, l->rstd1);
	unpu_member_wait(&w->me);
	project(w, l->norm1, s->hidden, l->qkv, unpu_net_qkv(s), w->rows, l->qkv_rows);
	rope(w, l->qkv_rows, 1);
	unpu_member_wait(&w->me);
	attend(w, l);
	unpu_member_wait(&w->me);
	project(w, l->att, unpu_net_q(s), l->out, s->hidden, w->rows, branch);
	add_branch(w, l->x, branch, 2 * layer + 1, l->mid);
	norm_rows(w, l->mid, l->ffn_norm, l->norm2, l->rstd2);
	unpu_member_wait(&w->me);
	project(w, l->norm2, s->hidden, l->gate_up, 2 * s->ffn, w->rows, l->gate_up_rows);
	swiglu_rows(w, l);
	unpu_member_wait(&w->me);
	project(w, l->act, s->ffn, l->down, s->hidden, w->rows, branch);
	add_branch(w, l->mid, branch, 2 * layer + 2, layer_out(w, layer));
	unpu_member_wait(&w->me);
}

/* Only rows with a target go through the head. */
static void head_forward(const struct worker *w)
{
	struct unpu_net *net = w->net;
	const uint32_t hidden = w->s->hidden;
	size_t i, last;

	unpu_member_share(&w->me, w->pass->picked, 1, &i, &last);
	for (; i < last; i++)
		net->rstd[i] = net->team.ops->norm_forward(
			net->x_out + (size_t)net->pick[i] * hidden,
			net->weights + net->out_norm, hidden, w->s->eps, net->picked + i * hidden);
	unpu_member_wait(&w->me);
	project(w, net->picked, hidden, net->head, w->s->vocab, w->pass->picked, net->logits);
}

static bool is_best(const float *logits, uint32_t n, uint32_t target)
{
	for (uint32_t i = 0; i < n; i++)
		if (logits[i] > logits[target] || (logits[i] == logits[target] && i < target))
			return false;
	return true;
}

static void loss_rows(const struct worker *w)
{
	struct unpu_net *net = w->net;
	const uint32_t vocab = w->s->vocab;
	size_t i, last;

	unpu_member_share(&w->me, w->pass->picked, 1, &i, &last);
	for (; i < last; i++) {
		float *logits = net->logits + i * vocab;
		uint32_t target = (uint32_t)w->pass->batch->targets[net->pick[i]];

		net->row_right[i] = is_best(logits, vocab, target);
		net->row_loss[i] = net->team.ops->softmax_loss(logits, vocab, target,
							       w->pass->with->scale);
	}
}

/* ---- backward ------------------------------------------------------------------------------ */

/* The gradient of a norm's weights: columns are shared out, rows are added in order. */
static void norm_weight_grad(const struct worker *w, size_t weight, const float *x,
			     const uint32_t *pick, const float *rstd, const float *dy,
			     uint32_t rows)
{
	const uint32_t hidden = w->s->hidden;
	float *grad = w->net->grads + weight;
	size_t first, last;

	if (!learns(w->net, weight))
		return;
	unpu_member_share(&w->me, hidden, 16, &first, &last);
	for (uint32_t row = 0; row < rows; row++) {
		const float *xr = x + (size_t)(pick ? pick[row] : row) * hidden;

		for (size_t i = first; i < last; i++)
			grad[i] += dy[(size_t)row * hidden + i] * xr[i] * rstd[row];
	}
}

/* dx += the gradient through a norm. */
static void norm_rows_back(const struct worker *w, const float *x, const float *rstd, size_t weight,
			   const float *dy, float *dx)
{
	const uint32_t hidden = w->s->hidden;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++)
		w->net->team.ops->norm_backward(x + row * hidden, rstd[row],
						w->net->weights + weight, dy + row * hidden,
						hidden, dx + row * hidden);
}

/* logits hold their gradient. */
static void head_backward(const struct worker *w)
{
	struct unpu_net *net = w->net;
	const uint32_t hidden = w->s->hidden, picked = w->pass->picked;
	size_t i, last;

	if (learns(net, net->head))
		project_grad(w, net->logits, w->s->vocab, net->picked, hidden, net->head, picked);
	project_back(w, net->logits, w->s->vocab, net->head, hidden, picked, net->picked_grad);
	norm_weight_grad(w, net->out_norm, net->x_out, net->pick, net->rstd, net->picked_grad,
			 picked);
	my_rows(w, &i, &last);
	memset(net->x_grad + i * hidden, 0, (last - i) * hidden * sizeof(float));
	unpu_member_wait(&w->me);
	unpu_member_share(&w->me, picked, 1, &i, &last);
	for (; i < last; i++) {
		size_t at = (size_t)net->pick[i] * hidden;

		net->team.ops->norm_backward(net->x_out + at, net->rstd[i],
					     net->weights + net->out_norm,
					     net->picked_grad + i * hidden, hidden,
					     net->x_grad + at);
	}
	unpu_member_wait(&w->me);
}

/* The branch's share of the stream's gradient: behind its dropout. */
static void branch_grad(const struct worker *w, uint32_t where, float *d_branch)
{
	const uint32_t hidden = w->s->hidden;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++) {
		memcpy(d_branch + row * hidden, w->net->x_grad + row * hidden,
		       hidden * sizeof(float));
		drop_row(w, where, row, d_branch + row * hidden);
	}
	unpu_member_wait(&w->me);
}

static void swiglu_rows_back(const struct worker *w, struct unpu_net_layer *l, const float *d_act)
{
	const uint32_t ffn = w->s->ffn;
	size_t row, last;

	my_rows(w, &row, &last);
	for (; row < last; row++) {
		float *gate = l->gate_up_rows + row * 2 * ffn;

		w->net->team.ops->swiglu_backward(gate, gate + ffn, d_act + row * ffn, ffn);
	}
	unpu_member_wait(&w->me);
}

static void ffn_backward(const struct worker *w, uint32_t layer)
{
	const struct unpu_net_shape *s = w->s;
	struct unpu_net *net = w->net;
	struct unpu_net_layer *l = &net->layers[layer];

	branch_grad(w, 2 * layer + 2, net->narrow);
	if (learns(net, l->down))
		project_grad(w, net->narrow, s->hidden, l->act, s->ffn, l->down, w->rows);
	project_back(w, net->narrow, s->hidden, l->down, s->ffn, w->rows, net->wide);
	swiglu_rows_back(w, l, net->wide);
	if (learns(net, l->gate_up))
		project_grad(w, l->gate_up_rows, 2 * s->ffn, l->norm2, s->hidden, l->gate_up,
			     w->rows);
	project_back(w, l->gate_up_rows, 2 * s->ffn, l->gate_up, s->hidden, w->rows, net->narrow);
	norm_weight_grad(w, l->ffn_norm, l->mid, NULL, l->rstd2, net->narrow, w->rows);
	norm_rows_back(w, l->mid, l->rstd2, l->ffn_norm, net->narrow, net->x_grad);
	unpu_member_wait(&w->me);
}

static void zero_rows(const struct worker *w, float *x, size_t width)
{
	size_t row, last;

	my_rows(w, &row, &last);
	memset(x + row * width, 0, (last - row) * width * sizeof(*x));
}

static void attn_backward(const struct worker *w, uint32_t layer)
{
	const struct unpu_net_shape *s = w->s;
	struct unpu_net *net = w->net;
	struct unpu_net_layer *l = &net->layers[layer];
	float *d_att = l->act, *d_qkv = net->wide;	/* act is not needed any more */

	branch_grad(w, 2 * layer + 1, net->narrow);
	if (learns(net, l->out))
		project_grad(w, net->narrow, s->hidden, l->att, unpu_net_q(s), l->out, w->rows);
	project_back(w, net->narrow, s->hidden, l->out, unpu_net_q(s), w->rows, d_att);
	zero_rows(w, d_qkv, unpu_net_qkv(s));
	unpu_member_wait(&w->me);
	attend_back(w, l, d_att, d_qkv);
	unpu_member_wait(&w->me);
	rope(w, d_qkv, -1);
	unpu_member_wait(&w->me);
	if (learns(net, l->qkv))
		project_grad(w, d_qkv, unpu_net_qkv(s), l->norm1, s->hidden, l->qkv, w->rows);
	project_back(w, d_qkv, unpu_net_qkv(s), l->qkv, s->hidden, w->rows, net->narrow);
	norm_weight_grad(w, l->attn_norm, l->x, NULL, l->rstd1, net->narrow, w->rows);
	norm_rows_back(w, l->x, l->rstd1, l->attn_norm, net->narrow, net->x_grad);
	unpu_member_wait(&w->me);
}

/* Columns are shared out: rows of the same token add up in order. */
static void embed_backward(const struct worker *w)
{
	struct unpu_net *net = w->net;
	const uint32_t hidden = w->s->hidden;
	size_t first, last;

	branch_grad(w, 0, net->narrow);
	unpu_member_share(&w->me, hidden, 16, &first, &last);
	for (uint32_t row = 0; row < w->rows; row++) {
		float *grad = net->grads + net->embed +
			      (size_t)w->pass->batch->tokens[row] * hidden;

		for (size_t i = first; i < last; i++)
			grad[i] += net->narrow[(size_t)row * hidden + i];
	}
}

/* ---- the whole ----------------------------------------------------------------------------- */

static void pass_share(void *arg, uint32_t thread)
{
	const struct pass *pass = arg;
	struct unpu_net *net = pass->net;
	struct worker w = {
		{ &net->team, thread }, pass, net, &net->shape, pass->batch->rows,
	};

	embed(&w);
	unpu_member_wait(&w.me);
	for (uint32_t i = 0; i < net->shape.layers; i++)
		layer_forward(&w, i);
	head_forward(&w);
	loss_rows(&w);
	unpu_member_wait(&w.me);
	if (!pass->with->grads)
		return;
	head_backward(&w);
	for (uint32_t i = net->shape.layers; i-- > pass->first_layer;) {
		ffn_backward(&w, i);
		attn_backward(&w, i);
	}
	if (!pass->first_layer && learns(net, net->embed))
		embed_backward(&w);
}

/* The lowest layer that learns, or that the embeddings' gradient goes through. */
static uint32_t first_layer(const struct unpu_net *net)
{
	uint32_t first = net->shape.layers;

	if (learns(net, net->embed))
		return 0;
	for (uint32_t i = 0; i < net->num_params; i++) {
		const struct unpu_param *p = &net->params[i];

		if (!p->frozen && p->layer >= 0 && (uint32_t)p->layer < first)
			first = (uint32_t)p->layer;
	}
	return first;
}

static int check_sequences(struct unpu_net *net, const struct unpu_net_batch *b)
{
	for (uint32_t i = 0; i < b->num_sequences; i++) {
		uint32_t length = b->starts[i + 1] - b->starts[i];

		if (b->starts[i + 1] <= b->starts[i] || length > net->shape.context)
			return unpu_fail(&net->log, -EINVAL,
					 "sequence %u has %u tokens, not 1 to %u", i, length,
					 net->shape.context);
	}
	if (!b->num_sequences || b->starts[0] || b->starts[b->num_sequences] != b->rows)
		return unpu_fail(&net->log, -EINVAL, "%u sequences do not make %u tokens",
				 b->num_sequences, b->rows);
	return 0;
}

/* Also which rows have a target. */
static int check_tokens(struct unpu_net *net, const struct unpu_net_batch *b, uint32_t *picked)
{
	const int32_t vocab = (int32_t)net->shape.vocab;

	*picked = 0;
	for (uint32_t i = 0; i < b->rows; i++) {
		if (b->tokens[i] < 0 || b->tokens[i] >= vocab || b->targets[i] >= vocab)
			return unpu_fail(&net->log, -EINVAL, "token %d of row %u is none of %d",
					 b->targets[i] >= vocab ? b->targets[i] : b->tokens[i], i,
					 vocab);
		if (b->targets[i] >= 0)
			net->pick[(*picked)++] = i;
	}
	return 0;
}

int unpu_net_run(struct unpu_net *net, const struct unpu_net_batch *batch,
		 const struct unpu_net_pass *with, double *loss, uint32_t *right)
{
	struct pass pass = { net, batch, with, 0, first_layer(net) };
	int err = check_sequences(net, batch);

	if (!err)
		err = unpu_net_reserve(net, batch->rows);
	if (!err)
		err = check_tokens(net, batch, &pass.picked);
	if (err)
		return err;
	*loss = 0;
	if (right)
		*right = 0;
	if (!pass.picked)
		return 0;
	unpu_team_run(&net->team, pass_share, &pass);
	for (uint32_t i = 0; i < pass.picked; i++) {
		*loss += net->row_loss[i];
		if (right)
			*right += net->row_right[i];
	}
	return isfinite(*loss) ? 0 : unpu_fail(&net->log, -EDOM, "the loss is not finite");
}
