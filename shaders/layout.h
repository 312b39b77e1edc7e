/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * How weights lie in a device's buffers: sizes and places as integer functions.
 *
 * A matrix has `rows` output rows of `k` inputs. Packed layouts pad both to 32 with zeros and group
 * rows in panels of 8, 16 or 32. Quantised packed layouts have two planes that are bound apart:
 *
 *   quants  panel after panel; in a panel block after block of 32 k
 *   scales  f16, [panel][block][row of the panel], but for the families below
 *
 * Inside one block of one panel (R rows x 32 k):
 *
 *   Q8_R8_K16   8 x 32 bytes: row r's 32 int8 in order of k
 *   Q8_R8_K4    [k / 4][row 0..7][k % 4] int8
 *   Q8_R16_K4U  [k / 4][row 0..15][k % 4] uint8 = weight + 128
 *   Q4_R8_K16   [row 0..7][i 0..15] byte: low nibble k = i, high k = 16 + i, two's complement
 *   Q4_R8_K4    [g 0..3][row 0..7][j 0..3] byte: low k = 4g + j, high k = 16 + 4g + j, two's compl.
 *   Q4_R8_K4U   as Q4_R8_K4, nibble = weight + 8
 *   Q4_R16_K4U  as Q4_R8_K4U with 16 rows
 *
 * Three families say more of a weight than one scale. k of Q4K and Q6K is a multiple of 256, a
 * group of 8 blocks, as in the file. Q8A pads k as all packed layouts do (its o does no harm there,
 * as what it multiplies is padded with zeros); its group is one block. Scales are [panel][group] of
 * a record of R rows:
 *
 *   Q4K  w = d * sc * q - dmin * m, q in 0..15. Quants as those of Q4_R8_K16 (two's complement of
 *        q - 8), Q4_R8_K4U and Q4_R16_K4U (q itself). Record: f16 d[R], f16 dmin[R], then for each
 *        of 8 blocks u8 sc[R], u8 m[R]: 20 bytes a row.
 *   Q6K  w = d * sc * (q - 32), q in 0..63. Per block 16 R bytes of low nibbles (in the order of
 *        Q4_R8_K16; Q4_R8_K4; the latter with 16 rows), then 8 R bytes h of the two high bits:
 *        h[i] has those of nibble byte i in bits 0-1 (its low nibble) and 2-3 (its high one), of
 *        nibble byte 8 R + i in bits 4-5 and 6-7. Record: f16 d[R], then for each of 8 blocks
 *        s8 sc[R] of its first 16 k, s8 sc[R] of the others: 18 bytes a row.
 *   Q8A  w = s * q + o, exact for every quantised type of a file. Quants as those of Q8_R8_K16,
 *        Q8_R8_K4 and Q8_R16_K4U. Record: f32 s[R] of the first 16 k, f32 s[R] of the others,
 *        f32 o[R]: 12 bytes a row and block.
 *
 * *_R32 are a GPU's, whose lane owns a row and loads 16 bytes (a piece) at a time, beside its
 * neighbours. A block of 32 k of 32 rows is [piece][row 0..31][16 bytes]:
 *
 *   F32_R32  8 pieces: k = 4 piece + 0..3
 *   F16_R32  4 pieces: k = 8 piece + 0..7
 *   Q8_R32   2 pieces: k = 16 piece + 0..15, int8
 *   Q4_R32   1 piece: byte i: low nibble k = i, high k = 16 + i, nibble = weight + 8
 *
 * The other float layouts are one plane, [panel of 16 rows][k][row of the panel]. GGUF_* layouts
 * are one plane, the file's bytes: row after row, K padded to the type's block only, rows not
 * padded.
 */
#ifndef UNPU_LAYOUT_H
#define UNPU_LAYOUT_H

#include "uapi/unpu_accel.h"

#define UNPU_PAD		32u
#define UNPU_CHUNK		64u	/* positions of one attention chunk */

static inline __u32 unpu_pad32(__u32 n)
{
	return (n + UNPU_PAD - 1) & ~(UNPU_PAD - 1);
}

enum unpu_family {
	UNPU_FAMILY_FLOAT,
	UNPU_FAMILY_Q,		/* w = d * q, one f16 scale a block of 32 */
	UNPU_FAMILY_Q4K,
	UNPU_FAMILY_Q6K,
	UNPU_FAMILY_Q8A,
};

struct unpu_layout_info {
	const char *name;
	__u8 family;		/* enum unpu_family */
	__u8 panel;		/* rows of a panel; 1 for GGUF_* */
	__u8 bits;		/* of one quant, without scales */
	__u8 scales;		/* bytes of one row's scales in a group; 0: no second plane */
	__u8 packed;		/* 1: rows and K padded to 32 */
	__u8 block;		/* bytes of one 32-k block in one row of a GGUF layout, else 0 */
	__u8 quantised;		/* 1: runs in class a8 too */
	__u16 group;		/* k that share a record of scales: 32 or 256 */
};

/* NULL for a number that is no layout. */
const struct unpu_layout_info *unpu_layout_info(__u32 layout);

/* Bytes of the planes; rows and k at most 2^30 each, so that nothing overflows 64 bits. */
__u64 unpu_layout_quant_bytes(__u32 layout, __u32 rows, __u32 k);
__u64 unpu_layout_scale_bytes(__u32 layout, __u32 rows, __u32 k);	/* 0: no such plane */

#endif
