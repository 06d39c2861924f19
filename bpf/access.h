/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading kernel memory. Where every hook is a trampoline (DIRECT), the
 * verifier knows the types of our arguments and lets us follow their pointers;
 * elsewhere each step is a helper call. What a BTF pointer cannot express
 * (container_of(), embedded arrays) is always read with the helper.
 */

#define PROBE(pointer, member) ({					\
	typeof((pointer)->member) _value;	/* zero if unreadable */ \
	bpf_probe_read_kernel(&_value, sizeof(_value), &(pointer)->member); \
	_value;								\
})

#if DIRECT
#define READ(pointer, member) ((pointer)->member)
#define READ_WORD(pointer) (*(u64 *)(pointer))
#else
#define READ(pointer, member) PROBE(pointer, member)
#define READ_WORD(pointer) ({						\
	u64 _word = 0;							\
	bpf_probe_read_kernel(&_word, sizeof(_word), (void *)(pointer));	\
	_word;								\
})
#endif

/*
 * The verifier looks once at a function of its own (51c39bb1d5d1, Linux 5.6), however many programs
 * and turns of a loop call it, and at what is inlined each time. To clang it is a helper that no
 * kernel has, and pte_trace/compiler.py makes a call of it: BCC links no functions. It is defined
 * as function_NUMBER__name, and is told and tells a number.
 */
#define LINKED_FUNCTION(number)	((void *)(0x7fffff00 + (number)))

/* bpf_get_current_task_btf(): commit 3ca1032ab7ab, Linux 5.11. */
#if DIRECT && defined(HAVE_CURRENT_TASK_BTF)
#define CURRENT_TASK() bpf_get_current_task_btf()
#define TASK_READ(task, member) READ(task, member)
/* bpf_get_current_pid_tgid() for less, where the task is at hand. */
#define IDS_OF(current) ((u64)(u32)(current)->tgid << 32 | (u32)(current)->pid)
#else
#define CURRENT_TASK() ((struct task_struct *)bpf_get_current_task())
#define TASK_READ(task, member) PROBE(task, member)
#define IDS_OF(current) bpf_get_current_pid_tgid()
#endif

/* mm_struct.owner exists with memory cgroups only. */
#ifdef HAVE_MM_OWNER
#define MM_OWNER(vma, otherwise) PROBE(READ(vma, vm_mm), owner)
#else
#define MM_OWNER(vma, otherwise) (otherwise)
#endif
