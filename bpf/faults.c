/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Write faults. How one was decided is known where do_wp_page() returns; it is
 * counted, once, where handle_mm_fault() returns.
 */

#define FAULT_FLAG_WRITE	0x01
#define FAULT_FLAG_USER		0x40
#define FAULT_FLAG_REMOTE	0x80
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
	u32 place;	/* of the record of the thread's last fault or change */
	u32 unfinished;	/* attempts of the slot's threads that are in `attempts` */
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
 * last one knows nothing of it. FAULT_FLAG_TRIED does not tell that there was
 * one: it is not set after an attempt under the VMA's own lock (since Linux 6.4).
 */
BPF_TABLE("lru_hash", u32, struct fault, attempts, 4096);

static struct fault *slot_of(u32 thread)
{
	int slot = thread & (FAULT_SLOTS - 1);

	return in_flight.lookup(&slot);
}

/*
 * Whether the memory is another process's. Whoever reaches into that says so (commit
 * 1b2ee1266ea6), but for kernel threads; what user space itself does is never such a fault.
 */
static bool is_foreign(struct task_struct *current, u32 flags)
{
	return !(flags & FAULT_FLAG_USER) &&
	       (flags & FAULT_FLAG_REMOTE || is_kernel_thread(current));
}

/* True for another process's memory too, of which is not known yet whose it is. */
static bool fault_asked_for(u32 flags)
{
	/* Not so is FAULT_FLAG_UNSHARE, which comes to do_wp_page() too (commit c89357e27f20). */
	if (!(flags & FAULT_FLAG_WRITE))
		return false;
#if FILTERED
	struct task_struct *current = CURRENT_TASK();

	return current_asked_for(current) || is_foreign(current, flags);
#else
	return true;
#endif
}

static void begin(struct fault *fault, u32 thread, u64 page)
{
	fault->thread = thread;
	fault->page = page;
	fault->outcome = OUTCOME_OTHER;
}

#if COSTS
static int fault_begins(u64 address)
{
	struct fault *fault;
	u32 thread;

#if COSTS > 1
	if (bpf_get_prandom_u32() % COSTS)
		return 0;
#endif
	thread = bpf_get_current_pid_tgid();
	fault = slot_of(thread);
	if (!fault || (fault->thread && fault->thread != thread))
		return 0;
	begin(fault, thread, address & PAGE_MASK);
	fault->started_ns = bpf_ktime_get_ns();
	return 0;
}
#endif

/*
 * What do_wp_page() did. Whether the mapping is shared is asked later: OUTCOME_WP_SHARED
 * says that it is not to be told here if it is not.
 */
static u32 wp_outcome(struct vm_fault *vmf, u32 result)
{
	u64 before = READ(vmf, orig_pte), after;

	/* Also where the attempt is repeated because dirty pages were written back meanwhile. */
	if (result & VM_FAULT_RETRY)
		return before & PTE_UFFD_WP ? OUTCOME_WP_UFFD : OUTCOME_WP_SHARED;
	after = READ_WORD(READ(vmf, pte));
	if (!(after & PTE_PRESENT))
		return OUTCOME_WP_SHARED;	/* reclaimed already */
	return (before ^ after) & PTE_FRAME ? OUTCOME_WP_COPY : OUTCOME_WP_REUSE;
}

static u32 outcome_in(u64 vm_flags, u32 outcome)
{
	if (outcome > OUTCOME_WP_SHARED)
		return outcome;
	if (vm_flags & VM_SHARED)
		return OUTCOME_WP_SHARED;
	return outcome == OUTCOME_WP_SHARED ? OUTCOME_OTHER : outcome;
}

static void remember_attempt(struct fault *slot, u32 thread, struct fault *known)
{
	if (!attempts.lookup(&thread))
		COUNT(slot->unfinished, 1);
	attempts.update(&thread, known);
}

static void forget_attempt(struct fault *slot, u32 thread)
{
	attempts.delete(&thread);
	COUNT(slot->unfinished, -1);
}

/* For a thread whose slot another one has. */
static void decided_elsewhere(struct fault *slot, u32 thread, u64 page, u32 outcome)
{
	struct fault *fault = attempts.lookup(&thread);

	if (!fault || fault->page != page) {
		struct fault known = {.page = page, .outcome = outcome};

		remember_attempt(slot, thread, &known);
	} else if (fault->outcome != OUTCOME_WP_UFFD) {
		fault->outcome = outcome;
	}
}

static int wp_page_done(struct vm_fault *vmf, u32 result)
{
	u32 thread = bpf_get_current_pid_tgid();
	struct fault *fault = slot_of(thread);

	if (!fault)
		return 0;
	/* Where each fault is timed, the slot is this fault's already. */
	if (COSTS != 1 || fault->thread != thread) {
		u64 page = READ(vmf, address) & PAGE_MASK;

		if (result & VM_FAULT_ERROR)
			return 0;
		if (fault->thread && fault->thread != thread) {
			struct vm_area_struct *vma = READ(vmf, vma);
			u32 outcome = outcome_in(READ(vma, vm_flags), wp_outcome(vmf, result));

			if (outcome != OUTCOME_OTHER)
				decided_elsewhere(fault, thread, page, outcome);
			return 0;
		}
		if (!fault->thread || fault->page != page) {
			if (COSTS)
				fault->started_ns = 0;
			begin(fault, thread, page);
		}
	}
	fault->outcome = wp_outcome(vmf, result);
	return 0;
}

/* The position of the highest bit that is set. */
static u64 log2_of(u64 value)
{
	u64 position = 0;

#pragma unroll
	for (u64 step = 16; step; step >>= 1) {
		if (value >> step) {
			value >>= step;
			position += step;
			/* One sum: the compiler would keep each term until the end. */
			asm volatile("" : "+r"(position));
		}
	}
	return position;
}

static void count_fault(struct vma_record *record, u32 outcome, u64 duration_ns)
{
	if (outcome >= OUTCOMES)
		return;
	COUNT(record->write_faults[outcome], 1);
	if (!duration_ns)
		return;
	COUNT(record->fault_ns[outcome], duration_ns);
	COUNT(record->fault_log2[outcome][duration_ns >> 32 ? 31 : log2_of(duration_ns)], 1);
}

/*
 * Put what is known of a fault's earlier attempts to @known, which is of the last one. An
 * attempt that is to be repeated is no fault yet: false.
 */
static bool is_complete(struct fault *slot, struct fault *known, u32 thread, u32 result)
{
	struct fault *before = attempts.lookup(&thread);

	if (before && before->page == known->page) {
		if (known->spent_ns)
			known->spent_ns += before->spent_ns;
		if (known->outcome == OUTCOME_OTHER || before->outcome == OUTCOME_WP_UFFD)
			known->outcome = before->outcome;
	}
	if (result & VM_FAULT_RETRY) {
		if (known->spent_ns || known->outcome != OUTCOME_OTHER)
			remember_attempt(slot, thread, known);
		return false;
	}
	if (before)
		forget_attempt(slot, thread);
	return true;
}

static int fault_done(struct vm_area_struct *vma, u64 address, u32 flags, u32 result)
{
	u64 page = address & PAGE_MASK, vm_flags, spent_ns = 0;
	struct task_struct *current = CURRENT_TASK();
	u64 current_ids = IDS_OF(current);
	u32 thread = current_ids, outcome = OUTCOME_OTHER;
	struct vma_record *record;
	struct fault *fault = slot_of(thread);
	struct subject subject;

	if (!fault)
		return 0;
	if (fault->thread == thread) {
		if (fault->page == page) {
			outcome = fault->outcome;
			if (COSTS && fault->started_ns)
				spent_ns = bpf_ktime_get_ns() - fault->started_ns;
		}
		fault->thread = 0;
	}
	vm_flags = READ(vma, vm_flags);
	outcome = outcome_in(vm_flags, outcome);
	if (fault->unfinished || result & VM_FAULT_RETRY) {
		struct fault known = {.page = page, .spent_ns = spent_ns, .outcome = outcome};

		if (!is_complete(fault, &known, thread, result))
			return 0;
		spent_ns = known.spent_ns;
		outcome = known.outcome;
	}
	if (result & VM_FAULT_ERROR)
		outcome = OUTCOME_ERROR;
	if (is_foreign(current, flags)) {
		subject = subject_of(vma);
		if (!subject.leader || !asked_for(subject.tgid, subject.leader))
			return 0;
	} else {
		subject = subject_current(current, current_ids >> 32);
	}
	record = record_at(vma, vm_flags, &subject, &fault->place);
	if (record)
		count_fault(record, outcome, COSTS ? spent_ns : 0);
	return 0;
}
