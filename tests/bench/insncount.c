/* SPDX-License-Identifier: MIT */
/*
 * A plugin for qemu-user: counts the guest's instructions between two marks (insncount.h). With
 * out=FILE among its arguments it writes there, for each END,
 *   cell NUMBER INSTRUCTIONS
 *   block ADDRESS TIMES BYTES      of all translated blocks that ran, their machine code as hex
 *
 * Plugin interface version 1 (QEMU 4.2 to 8.2; later ones count through scoreboards). Debian ships
 * no header for it, so what is used of it is declared here. A translated block that faults half way
 * counts as whole. For guests of one thread.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/insncount.h"

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void qemu_plugin_syscall_fn(qemu_plugin_id_t id, unsigned int cpu, int64_t number,
				    uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
				    uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
					   void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op,
					      void *ptr, uint64_t imm);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, qemu_plugin_syscall_fn *cb);

EXPORT extern const int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc,
			       char **argv);

const int qemu_plugin_version = 1;

struct block {
	struct block *next;
	uint64_t address, times;
	size_t insns, bytes;
	uint8_t code[];
};

static struct block *blocks;
static FILE *out;

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t insns = qemu_plugin_tb_n_insns(tb), bytes = 0;
	struct block *block;

	(void)id;
	for (size_t i = 0; i < insns; i++)
		bytes += qemu_plugin_insn_size(qemu_plugin_tb_get_insn(tb, i));
	block = calloc(1, sizeof(*block) + bytes);
	if (!block)
		abort();
	block->address = qemu_plugin_tb_vaddr(tb);
	block->insns = insns;
	for (size_t i = 0; i < insns; i++) {
		const struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		memcpy(block->code + block->bytes, qemu_plugin_insn_data(insn),
		       qemu_plugin_insn_size(insn));
		block->bytes += qemu_plugin_insn_size(insn);
	}
	block->next = blocks;
	blocks = block;
	qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->times, 1);
}

static void report(uint64_t cell)
{
	uint64_t count = 0;

	for (const struct block *block = blocks; block; block = block->next)
		count += block->times * block->insns;
	fprintf(out, "cell %" PRIu64 " %" PRIu64 "\n", cell, count);
	for (const struct block *block = blocks; block; block = block->next) {
		if (!block->times)
			continue;
		fprintf(out, "block %" PRIu64 " %" PRIu64 " ", block->address, block->times);
		for (size_t i = 0; i < block->bytes; i++)
			fprintf(out, "%02x", block->code[i]);
		fputc('\n', out);
	}
	fflush(out);
}

static void on_syscall(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t what,
		       uint64_t cell, uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6,
		       uint64_t a7, uint64_t a8)
{
	(void)id, (void)cpu, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
	if (number != INSNCOUNT_MARK)
		return;
	if (what == INSNCOUNT_END)
		report(cell);
	for (struct block *block = blocks; block; block = block->next)
		block->times = 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!out)
		return -1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
	qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
	return 0;
}
