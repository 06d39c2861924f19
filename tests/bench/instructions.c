// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's: how many instructions a CPU executes from one marker of
 * tests/workloads/markers.h to the other.
 *
 *	-plugin instructions.so,to=FILE
 *
 * FILE gets a line with a number each time. A translated block is counted when it begins, so that
 * one which a fault ends early is counted whole. Debian 12 ships no qemu-plugin.h: declared here is
 * what is used of version 1 of its interface, as in QEMU 7.2 (include/qemu/qemu-plugin.h).
 */
#include "../workloads/markers.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;

struct qemu_info {
	const char *target_name;
	int lowest_version, version;
	bool system_emulation;
	int cpus, cpus_at_most;
};

typedef void (*when_translated)(uint64_t plugin, struct qemu_plugin_tb *block);
typedef void (*when_executed)(unsigned int cpu, void *argument);

enum registers { NO_REGISTERS };

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t plugin, when_translated);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, when_executed, enum registers,
					  void *argument);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, when_executed,
					    enum registers, void *argument);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

int qemu_plugin_version = 1;

#define CPUS 64

/* Each is written by its own CPU only, which may be a thread of its own. */
static struct {
	_Alignas(64) uint64_t executed;
	uint64_t from;
} counts[CPUS];
static FILE *found;

static void block_begins(unsigned int cpu, void *instructions)
{
	counts[cpu].executed += (uintptr_t)instructions;
}

static void count_from(unsigned int cpu, void *not_yet_executed)
{
	counts[cpu].from = counts[cpu].executed - (uintptr_t)not_yet_executed;
}

static void count_to(unsigned int cpu, void *not_yet_executed)
{
	uint64_t to = counts[cpu].executed - (uintptr_t)not_yet_executed;

	fprintf(found, "%lu\n", to - counts[cpu].from);
}

static when_executed marker(const struct qemu_plugin_insn *instruction)
{
	static const uint8_t nop[] = {0x0f, 0x1f, 0x80};
	const char *bytes = qemu_plugin_insn_data(instruction);
	uint32_t displacement;

	if (qemu_plugin_insn_size(instruction) != sizeof(nop) + sizeof(displacement) ||
	    memcmp(bytes, nop, sizeof(nop)))
		return NULL;
	memcpy(&displacement, bytes + sizeof(nop), sizeof(displacement));
	return displacement == COUNT_FROM ? count_from : displacement == COUNT_TO ? count_to : NULL;
}

static void translated(uint64_t plugin, struct qemu_plugin_tb *block)
{
	size_t length = qemu_plugin_tb_n_insns(block);

	(void)plugin;
	qemu_plugin_register_vcpu_tb_exec_cb(block, block_begins, NO_REGISTERS, (void *)length);
	for (size_t index = 0; index < length; index++) {
		struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
		when_executed then = marker(instruction);

		if (then)
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, then, NO_REGISTERS,
							       (void *)(length - index));
	}
}

int qemu_plugin_install(uint64_t plugin, const struct qemu_info *info, int argc, char **argv)
{
	if (info->cpus_at_most > CPUS || argc != 1 || strncmp(argv[0], "to=", 3))
		return 1;
	found = fopen(argv[0] + 3, "w");
	if (!found)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(plugin, translated);
	return 0;
}
