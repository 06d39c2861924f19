/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading kernel memory. Where the verifier knows the types of our arguments (DIRECT) it
 * lets us follow their pointers; elsewhere each step is a helper call. Of a trampoline's
 * arguments it knows them, of a probe's it can be told (CASTS). What a BTF pointer cannot
 * express (container_of(), embedded arrays) is always read with the helper.
 */

#define PROBE(pointer, member) ({					\
	typeof((pointer)->member) _value;	/* zero if unreadable */ \
	bpf_probe_read_kernel(&_value, sizeof(_value), &(pointer)->member); \
	_value;								\
})

#if DIRECT
#define READ(pointer, member) ((pointer)->member)
#else
#define READ(pointer, member) PROBE(pointer, member)
#endif

/*
 * A function of the kernel that programs may call, by its id in the kernel's BTF. To clang it is
 * a helper that no kernel has, and pte_trace/programs/compiler.py makes a call of it.
 */
#define KERNEL_FUNCTION(id)	((void *)(0x40000000 + (id)))

/* What is at an address, as a pointer that may be followed: a35b9af4ec2c, Linux 6.2. */
#if CASTS
static void *(*rdonly_cast)(u64 address, u32 type) = KERNEL_FUNCTION(ID_bpf_rdonly_cast);
#define AS(type, address)	((struct type *)rdonly_cast(address, ID_##type))
#else
#define AS(type, address)	((struct type *)(address))
#endif

/* A word at an address that is but a number: the kernel's struct pgprot is just a word. */
struct word {
	u64 word;
};

#if CASTS
#define READ_WORD(address)	(((struct word *)rdonly_cast(address, ID_pgprot))->word)
#else
#define READ_WORD(address)	PROBE((struct word *)(address), word)
#endif

/*
 * The verifier looks once at a function of its own (51c39bb1d5d1, Linux 5.6), however many programs
 * and turns of a loop call it, and at what is inlined each time. To clang it is a helper that no
 * kernel has, and pte_trace/programs/compiler.py makes a call of it: BCC links no functions. It is defined
 * as function_NUMBER__name, and is told and tells a number.
 */
#define LINKED_FUNCTION(number)	((void *)(0x7fffff00 + (number)))

/*
 * The one value of a table, at no cost: its address is in the program (BPF_PSEUDO_MAP_VALUE, since
 * Linux 5.2). To clang it is a number with the table's, VALUE_name, in its upper half, and
 * pte_trace/programs/compiler.py makes an address of it.
 */
#define VALUE_OF(table)	({						\
	typeof((table).leaf) *_value = (void *)((0x7ab1e000ULL + VALUE_##table) << 32); \
	asm volatile("" : "+r"(_value));				\
	_value;								\
})

/* bpf_get_current_task_btf(): commit 3ca1032ab7ab, Linux 5.11. */
#if DIRECT && defined(HAVE_CURRENT_TASK_BTF)
#define CURRENT_TASK() bpf_get_current_task_btf()
#define TASK_READ(task, member) READ(task, member)
#else
#define CURRENT_TASK() ((struct task_struct *)bpf_get_current_task())
#define TASK_READ(task, member) PROBE(task, member)
#endif

/* The process and the thread; for less where the verifier trusts the task (3f00c5239344, 6.2). */
#if CASTS && defined(HAVE_CURRENT_TASK_BTF)
#define IDS_OF(current) ((u64)(u32)(current)->tgid << 32 | (u32)(current)->pid)
#else
#define IDS_OF(current) bpf_get_current_pid_tgid()
#endif

/* mm_struct.owner exists with memory cgroups only. */
#ifdef HAVE_MM_OWNER
#define MM_OWNER(vma, otherwise) PROBE(READ(vma, vm_mm), owner)
#else
#define MM_OWNER(vma, otherwise) (otherwise)
#endif
