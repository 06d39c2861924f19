/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Write faults. How one was decided is known where do_wp_page() returns; it is
 * counted, once, where handle_mm_fault() returns.
 */

#define FAULT_FLAG_WRITE	0x01
#define FAULT_FLAG_TRIED	0x20
#define VM_FAULT_ERROR		0x873	/* OOM, SIGBUS, SIGSEGV, HWPOISON, FALLBACK */
#define VM_FAULT_RETRY		0x400
#define PTE_FRAME		0x000ffffffffff000ULL
#define PTE_PRESENT		0x001ULL
#define PTE_UFFD_WP		0x400ULL
#define FAULT_SLOTS		16384

/* What is known of a thread's fault on its way through the hooks. */
struct fault {
	u64 page;
	u64 started_ns;	/* 0: not timed */
	u64 spent_ns;	/* in earlier attempts */
	u32 thread;	/* 0: the slot is free */
	u32 outcome;
};

/*
 * A slot belongs to the thread that found it free, until its fault is done.
 * Where the low bits of two threads' ids are the same, the second one of two
 * simultaneous faults is kept in `attempts`, which is exact but slower.
 */
BPF_ARRAY(in_flight, struct fault, FAULT_SLOTS);

/*
 * Faults whose attempt ended with VM_FAULT_RETRY, by thread. A userfaultfd
 * monitor is told, and a shared page made writable, in the first attempt; the
 * last one knows nothing of it.
 */
BPF_TABLE("lru_hash", u32, struct fault, attempts, 4096);

static struct fault *slot_of(u32 thread)
{
	int slot = thread & (FAULT_SLOTS - 1);

	return in_flight.lookup(&slot);
}

#if COSTS
static int fault_begins(u64 address, u32 flags)
{
	struct fault *fault;
	u32 thread;

	if (!(flags & FAULT_FLAG_WRITE))
		return 0;
#if COSTS > 1
	if (bpf_get_prandom_u32() % COSTS)
		return 0;
#endif
	thread = bpf_get_current_pid_tgid();
	fault = slot_of(thread);
	if (!fault || (fault->thread && fault->thread != thread))
		return 0;
	fault->thread = thread;
	fault->page = address & PAGE_MASK;
	fault->outcome = OUTCOME_OTHER;
	fault->started_ns = bpf_ktime_get_ns();
	return 0;
}
#endif

static void decided(u64 page, u32 outcome)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct fault *fault = slot_of(thread);

	if (fault && (!fault->thread || fault->thread == thread)) {
		if (!fault->thread || fault->page != page)
			fault->started_ns = 0;
		fault->thread = thread;
		fault->page = page;
		fault->outcome = outcome;
		return;
	}
	fault = attempts.lookup(&thread);
	if (!fault || fault->page != page) {
		struct fault known = {.page = page, .outcome = outcome};

		attempts.update(&thread, &known);
	} else if (fault->outcome != OUTCOME_WP_UFFD) {
		fault->outcome = outcome;
	}
}

static int wp_page_done(struct vm_fault *vmf, u32 result)
{
	u64 before = READ(vmf, orig_pte), page = READ(vmf, address) & PAGE_MASK, after = 0;
	struct vm_area_struct *vma = READ(vmf, vma);

	/* FAULT_FLAG_UNSHARE comes here too (commit c89357e27f20). */
	if (!(READ(vmf, flags) & FAULT_FLAG_WRITE) || result & VM_FAULT_ERROR)
		return 0;
#if INSPECT
	learn_direct_map(vmf);
#endif
	if (result & VM_FAULT_RETRY && before & PTE_UFFD_WP) {
		decided(page, OUTCOME_WP_UFFD);
		return 0;
	}
	/* Also where the attempt is repeated because dirty pages were written back meanwhile. */
	if (READ(vma, vm_flags) & VM_SHARED) {
		decided(page, OUTCOME_WP_SHARED);
		return 0;
	}
	if (result & VM_FAULT_RETRY)
		return 0;
	after = READ_WORD(READ(vmf, pte));
	if (!(after & PTE_PRESENT))
		return 0;	/* reclaimed already: cannot be told, so it stays "other" */
	decided(page, (before ^ after) & PTE_FRAME ? OUTCOME_WP_COPY : OUTCOME_WP_REUSE);
	return 0;
}

/* The position of the highest bit that is set. */
static u32 log2_of(u64 value)
{
	u32 position = 0;

#pragma unroll
	for (u32 step = 32; step; step >>= 1) {
		u32 above = (value >> step != 0) * step;

		value >>= above;
		position += above;
	}
	return position;
}

static void count_fault(struct vma_record *record, u32 outcome, u64 duration_ns)
{
	u32 bucket;

	COUNT(record->write_faults, 1);
	if (outcome < DECIDED_OUTCOMES)
		COUNT(record->decided[outcome], 1);
	if (!duration_ns || outcome > OUTCOME_OTHER)
		return;
	COUNT(record->fault_ns[outcome], duration_ns);
	bucket = log2_of(duration_ns);
	if (bucket > 31)
		bucket = 31;
	COUNT(record->fault_log2[outcome][bucket], 1);
}

static int fault_done(struct vm_area_struct *vma, u64 address, u32 flags, u32 result)
{
	struct fault known = {.page = address & PAGE_MASK, .outcome = OUTCOME_OTHER}, *fault;
	struct vma_record *record;
	bool elsewhere = false;
	u32 thread;

	if (!(flags & FAULT_FLAG_WRITE))
		return 0;
	thread = bpf_get_current_pid_tgid();
	fault = slot_of(thread);
	if (fault && fault->thread == thread) {
		if (fault->page == known.page) {
			known.outcome = fault->outcome;
			if (fault->started_ns)
				known.spent_ns = bpf_ktime_get_ns() - fault->started_ns;
		}
		fault->thread = 0;
	} else if (fault && fault->thread) {
		elsewhere = true;
	}
	if (elsewhere || flags & FAULT_FLAG_TRIED || READ(vma, vm_flags) & VM_UFFD_WP) {
		fault = attempts.lookup(&thread);
		if (fault && fault->page == known.page) {
			if (known.spent_ns)
				known.spent_ns += fault->spent_ns;
			if (known.outcome == OUTCOME_OTHER || fault->outcome == OUTCOME_WP_UFFD)
				known.outcome = fault->outcome;
			attempts.delete(&thread);
		}
	}
	/* An attempt that is to be repeated is no fault yet. */
	if (result & VM_FAULT_RETRY) {
		if (known.spent_ns || known.outcome != OUTCOME_OTHER)
			attempts.update(&thread, &known);
		return 0;
	}
	if (result & VM_FAULT_ERROR)
		known.outcome = OUTCOME_ERROR;
	record = record_of(vma);
	if (record)
		count_fault(record, known.outcome, known.spent_ns);
	return 0;
}
