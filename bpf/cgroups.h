/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which cgroup (of version 2) a process is in, and whether that is asked for.
 */

#ifdef HAVE_CGROUPS

#define CGROUP_DEPTH	32

/* Read in the way of its @leader: TASK_READ of the current process, PROBE of any other one. */
#define CGROUP_OF(read, leader)	read(read(read(leader, cgroups), dfl_cgrp), kn)

#ifdef FILTER_CGROUP

/*
 * What was found out of a cgroup: its id, and in the lowest bit whether it is asked for. An id is
 * given to one cgroup only, and none moves to another place, so this stays true. Where two cgroups
 * share a place it is found out again.
 */
#define VERDICTS	4096

struct verdicts {
	u64 of[VERDICTS];
};

BPF_ARRAY(verdicts, struct verdicts, 1);
#define VALUE_verdicts	3

BPF_ARRAY(wanted_cgroups, struct wanted_cgroups, 1);

#define EACH_BYTE	0x0101010101010101ULL

/* All bits where @value is 0, none elsewhere; without a branch, which would be walked twice. */
static u64 if_zero(u64 value)
{
	u64 set = (value | -value) >> 63;

	asm volatile("" : "+r"(set));
	return set - 1;
}

/* How many bytes of @word come before one that is 0. */
static u64 length_in(u64 word)
{
	u64 zeros = (word - EACH_BYTE) & ~word & EACH_BYTE << 7;

	return ((((zeros & -zeros) >> 7) - 1) & EACH_BYTE) * EACH_BYTE >> 56;
}

/* A cgroup that is looked at. All its words are read to one place: the stack has little room. */
struct look {
	struct wanted_cgroups *wanted;
	u64 word;
};

static u64 word_at(struct look *look, u64 address)
{
	bpf_probe_read_kernel(&look->word, sizeof(look->word), (void *)address);
	return look->word;
}

/*
 * All bits where the letters from @begin on are the container's id and not its monitor's. Not where
 * a name of @length has no room for them: what lies before it is another's.
 */
static u64 names_container(struct look *look, u64 begin, u64 length)
{
	struct wanted_cgroups *wanted = look->wanted;
	u64 differing = (length - CONTAINER_WORDS * sizeof(u64)) >> 63;

#pragma clang loop unroll(disable)
	for (u32 at = 0; at < CONTAINER_WORDS; at++)
		differing |= (word_at(look, begin + at * sizeof(u64)) ^ wanted->container[at]) &
			     wanted->container_mask[at];
	return if_zero(differing) &
	       ~if_zero(word_at(look, begin - sizeof(u64)) ^ wanted->monitor);
}

/* Which of what is asked for a cgroup's name says. */
static u64 said_by_name(struct look *look, u64 name)
{
	struct wanted_cgroups *wanted = look->wanted;
	u64 differing = 0, length = 0, inside = ~0ULL, said;

	/* A name begins at a word, and its last word is all its own: kstrdup() made it. */
#pragma clang loop unroll(disable)
	for (u32 at = 0; at < UNIT_WORDS; at++) {
		u64 word = word_at(look, name + at * sizeof(u64)), here = length_in(word);

		differing |= (word ^ wanted->unit[at]) & wanted->unit_mask[at];
		length += here & inside;
		inside &= if_zero(here ^ sizeof(u64));
	}
	said = if_zero(differing) & WANT_UNIT;
	/* An id is last, or ".scope" is. */
#pragma clang loop unroll(disable)
	for (u32 turn = 0; turn < 2; turn++) {
		said |= names_container(look, name + length - CONTAINER_WORDS * sizeof(u64),
					length) & WANT_CONTAINER;
		length -= sizeof(".scope") - 1;
	}
	return said;
}

/* Takes the address of a cgroup's struct kernfs_node. */
static int (*find_out)(u64) = LINKED_FUNCTION(2);

int function_2__find_out(u64 address)
{
	int zero = 0;
	struct look look = {.wanted = wanted_cgroups.lookup(&zero)};
	u64 said = 0;

	if (!look.wanted)
		return 0;
#pragma clang loop unroll(disable)
	for (u32 depth = 0; depth < CGROUP_DEPTH && address; depth++) {
		struct kernfs_node *node = (struct kernfs_node *)address;

		said |= if_zero(word_at(&look, (u64)&node->id) ^ look.wanted->id) & WANT_DIRECTORY;
#ifdef FILTER_CGROUP_NAME
		said |= said_by_name(&look, word_at(&look, (u64)&node->name));
#endif
		address = word_at(&look, (u64)&node->KERNFS_PARENT);
	}
	return (said & look.wanted->all) == look.wanted->all;
}

static bool cgroup_asked_for(u64 id, struct kernfs_node *node)
{
	u64 verdict = VALUE_OF(verdicts)->of[id & (VERDICTS - 1)], address = 0;

	/* Read once: another CPU may put another cgroup's there. */
	asm volatile("" : "+r"(verdict));
	if (verdict >> 1 != id) {
		/* Read back, it is a number to the verifier. */
		bpf_probe_read_kernel(&address, sizeof(address), &node);
		verdict = id << 1 | find_out(address);
		VALUE_OF(verdicts)->of[id & (VERDICTS - 1)] = verdict;
	}
	return verdict & 1;
}

#endif
#endif
