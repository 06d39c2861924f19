/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Instructions that do nothing, between which tests/bench/instructions.c counts: long NOPs, with
 * displacements that no compiler pads with.
 */
#ifndef MARKERS_H
#define MARKERS_H

#define COUNT_FROM 0x6d6f7266
#define COUNT_TO 0x6f74

#define MARK(displacement) asm volatile("nopl %c0(%%rax)" : : "i"(displacement) : "memory")

#endif
