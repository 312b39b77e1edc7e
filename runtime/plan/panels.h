/* SPDX-License-Identifier: MIT */
/* Panels of packed layouts, from rows of a file. */
#ifndef UNPU_PANELS_H
#define UNPU_PANELS_H

#include <stdint.h>

#define UNPU_PANEL_MAX	32

/* One row of a matrix in the file's type; data NULL: a row of zeros. */
struct unpu_pack_row {
	const uint8_t *data;
	uint32_t type;		/* enum unpu_type */
};

/*
 * Write one panel: `info->panel` rows of k inputs each. quants and scales are where the panel
 * begins in its plane (scales unused without such a plane). The layout must take every row's type
 * (unpu_layout_takes()). A pure function of its inputs, so that a host packs for a board.
 */
void unpu_pack_panel(uint32_t layout, const struct unpu_pack_row *rows, uint32_t k,
		     uint8_t *quants, uint8_t *scales);

/* The same for the families Q4K, Q6K and Q8A alone. */
void unpu_pack_panel_k(uint32_t layout, const struct unpu_pack_row *rows, uint32_t k,
		       uint8_t *quants, uint8_t *scales);

/* Whether packing loses nothing, but for what f32 has not of a weight. */
int unpu_layout_holds(uint32_t layout, uint32_t type);

/* The same, or every quantised value is rounded to the nearest f16 of it. */
int unpu_layout_takes(uint32_t layout, uint32_t type);

/* Bytes of one panel in the quants plane, and in that of scales. */
uint64_t unpu_panel_bytes(uint32_t layout, uint32_t k);
uint64_t unpu_panel_scale_bytes(uint32_t layout, uint32_t k);

#endif
