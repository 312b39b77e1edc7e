/* SPDX-License-Identifier: MIT */
/* A training: its schedule, its place in the data, and checkpoints that it goes on from. */
#ifndef UNPU_TRAIN_TRAINER_H
#define UNPU_TRAIN_TRAINER_H

#include "train/data.h"
#include "train/net.h"

struct unpu_trainer_settings {
	uint64_t seed;
	uint64_t steps;			/* of the whole schedule */
	uint64_t warmup;		/* steps in which the rate grows from 0 */
	uint32_t batch;			/* sequences of a step */
	uint32_t accumulate;		/* parts that a step's batch is computed in */
	float rate, final_rate;		/* the cosine goes from one to the other */
	float beta1, beta2, eps, decay, clip, dropout;
	uint32_t patience;		/* validations without a better one; 0: any number */
};

struct unpu_trainer;

/* What a step or a validation brought. */
struct unpu_trainer_step {
	uint64_t step, epoch;
	double loss;		/* mean over targets */
	double right;		/* share of targets that were the most probable */
	float rate, norm;
	uint64_t tokens;	/* rows of the step */
};

/* The network, samples and log must outlive it; valid may have no sequences. -EINVAL names a
 * setting; -ENOMEM. */
int unpu_trainer_create(struct unpu_net *net, const struct unpu_samples *train,
			const struct unpu_samples *valid,
			const struct unpu_trainer_settings *settings, const struct unpu_log *log,
			struct unpu_trainer **trainer);
void unpu_trainer_destroy(struct unpu_trainer *trainer);

/* 1: there was one; 0: the schedule is over, or patience; -EDOM: the loss or the gradient is not
 * finite, and the weights are as they were before the step. */
int unpu_trainer_step(struct unpu_trainer *trainer, struct unpu_trainer_step *step);
/* Loss of all of valid; remembers the weights when it is the best so far (*best). */
int unpu_trainer_validate(struct unpu_trainer *trainer, struct unpu_trainer_step *step, bool *best);
/* The weights of the best validation, or the present ones without any. */
const float *unpu_trainer_weights(const struct unpu_trainer *trainer);
uint64_t unpu_trainer_at(const struct unpu_trainer *trainer);

/*
 * A checkpoint is written beside `path` and moved over it when it is whole. Loading takes place
 * before the first step; a training goes on from it to the bit. -EINVAL: damaged, or of another
 * network, data or settings: the log says which; errors of open(2), write(2).
 */
int unpu_trainer_save(const struct unpu_trainer *trainer, const char *path);
int unpu_trainer_load(struct unpu_trainer *trainer, const char *path);

#endif
