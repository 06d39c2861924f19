/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Write faults. What a page was before is noted where do_wp_page() is entered: under the page
 * table's lock, before anything was changed. What became of it is looked at where
 * handle_mm_fault() returns, and the fault is counted there, once. Of huge pages it is noted in
 * huge.c, and here it is the same.
 */

#define FAULT_FLAG_WRITE	0x01
#define FAULT_FLAG_USER		0x40
#define FAULT_FLAG_REMOTE	0x80
#define VM_FAULT_ERROR		0x873	/* OOM, SIGBUS, SIGSEGV, HWPOISON, FALLBACK */
#define VM_FAULT_RETRY		0x400
#define VM_FAULT_COMPLETED	0x4000	/* done, and the VMA is no longer locked (Linux 6.0) */
#define FAULT_SLOTS		8192

/* Entries are at multiples of eight. */
#define IS_PMD			0x1	/* of a transparent huge page */
#define UPGRADED		0x2	/* this fault's thread made it writable */
#define UNLOCKED		0x4	/* it was looked at before its lock was taken */
#define PLACE_OF(entry)		((entry) & ~7ULL)

/* What is known of a thread's fault on its way through the hooks. */
struct fault {
	u64 page;
	u64 started_ns;	/* 0: not timed */
	u64 spent_ns;	/* in earlier attempts */
	u64 before;	/* the write-protected entry that it met; 0: none */
	u64 entry;	/* where that is, and in its low bits what is known of it */
	u32 met;	/* an enum met: the page that it maps */
	u32 looked;	/* when, for an entry that is UNLOCKED: see moment() */
	u32 thread;	/* 0: the slot is free */
	u32 outcome;	/* of earlier attempts */
	u32 place;	/* of the record of the thread's last fault or change */
	u32 unfinished;	/* attempts of the slot's threads that are in `attempts` */
};

/*
 * A slot belongs to the thread that found it free, until its fault is done.
 * Where the low bits of two threads' ids are the same, the second one of two
 * simultaneous faults is kept in `attempts`, which is exact but slower.
 */
struct faults {
	struct fault of[FAULT_SLOTS];
};

BPF_ARRAY(in_flight, struct faults, 1);
#define VALUE_in_flight	2

/*
 * Faults whose attempt ended with VM_FAULT_RETRY, by thread. A userfaultfd
 * monitor is told, and a shared page made writable, in the first attempt; the
 * last one knows nothing of it. FAULT_FLAG_TRIED does not tell that there was
 * one: it is not set after an attempt under the VMA's own lock (since Linux 6.4).
 */
BPF_TABLE("lru_hash", u32, struct fault, attempts, 4096);

/* When an entry that faults looked at before its lock was taken was last settled by one of them. */
BPF_TABLE("lru_hash", u64, u32, settled, 1024);

static struct fault *slot_of(u32 thread)
{
	struct fault *slot = &VALUE_OF(in_flight)->of[thread & (FAULT_SLOTS - 1)];

	/* It is kept: the compiler would add it up anew wherever it is used. */
	asm volatile("" : "+r"(slot));
	return slot;
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

static u32 origin_of(struct task_struct *current, u32 flags)
{
	if (flags & FAULT_FLAG_USER)
		return ORIGIN_USER;
	return is_foreign(current, flags) ? ORIGIN_REMOTE : ORIGIN_KERNEL;
}

/* True for another process's memory too, of which is not known yet whose it is. */
static bool fault_asked_for(struct task_struct *current, u64 ids, u32 flags)
{
	/* Not so is FAULT_FLAG_UNSHARE, which comes to do_wp_page() too (commit c89357e27f20). */
	if (!(flags & FAULT_FLAG_WRITE))
		return false;
#if FILTERED
	return current_asked_for(current, ids >> 32) || is_foreign(current, flags);
#else
	return true;
#endif
}

/* Where each fault begins in its thread's slot, if that is free. */
#define EACH_BEGINS	(COSTS == 1 || SESSION_handle_mm_fault)

static void begin(struct fault *fault, u32 thread, u64 page)
{
	fault->thread = thread;
	fault->page = page;
	fault->before = 0;
}

static bool is_anothers(struct fault *slot, u32 thread)
{
	return slot->thread && slot->thread != thread;
}

/* One of so many is timed. */
static bool is_timed(void)
{
#if COSTS > 1
	return bpf_get_prandom_u32() % COSTS == 0;
#else
	return COSTS;
#endif
}

/* Whether the thread's slot is the fault's. */
static bool fault_begins(u32 thread, u64 page, bool timed)
{
	struct fault *fault = slot_of(thread);

	if (is_anothers(fault, thread))
		return false;
	begin(fault, thread, page);
	if (COSTS)
		fault->started_ns = timed ? bpf_ktime_get_ns() : 0;
	return true;
}

/* About a microsecond is one; they begin anew after an hour. */
static u32 moment(void)
{
	return bpf_ktime_get_ns() >> 10;
}

/*
 * Of the faults that met one entry and waited for each other one alone settled it: the one that
 * tells so first. Of two who delete an element one finds it.
 */
static bool settles(struct fault *known)
{
	u64 place = PLACE_OF(known->entry);
	u32 now = moment(), *last = settled.lookup(&place);

	if (last && ((s32)(*last - known->looked) >= 0 || settled.delete(&place)))
		return false;
	return !settled.insert(&place, &now);
}

/*
 * Of a PMD, whose lock is taken after it was noted, and of any entry that was noted UNLOCKED: whether
 * this fault made @after of it. Another thread's may have.
 */
static bool is_ours_by_now(struct fault *known, u64 after, bool moved)
{
	if (known->entry & IS_PMD && !(after & ENTRY_HUGE))
		return false;	/* it was split */
	if (known->entry & UNLOCKED && !settles(known))
		return false;
	return moved || !TRACED_pmdp_set_access_flags ||
	       (known->entry & (IS_PMD | UPGRADED)) != IS_PMD;
}

/*
 * What became of the write-protected entry that was met, OUTCOME_OTHER where there was none. Only
 * where it is writable now is that a reuse: it may have failed, or another thread's fault have been
 * in between.
 */
static u64 wp_outcome(struct fault *known, u64 vm_flags, u64 result)
{
	u64 before = known->before, watched = before & ENTRY_UFFD_WP, after, moved;

	if (!before)
		return OUTCOME_OTHER;
	if (result & (VM_FAULT_COMPLETED | VM_FAULT_RETRY) || vm_flags & VM_SHARED) {
		/* Of shared mappings only: fault_dirty_shared_page(). */
		if (result & VM_FAULT_COMPLETED)
			return OUTCOME_WP_SHARED;
		if (result & VM_FAULT_RETRY && watched)
			return OUTCOME_WP_UFFD;
		/* Also where it is repeated because dirty pages were written back meanwhile. */
		if (vm_flags & VM_SHARED && !watched)
			return OUTCOME_WP_SHARED;
		if (result & VM_FAULT_RETRY)
			return OUTCOME_OTHER;
	}
	/* Its table is still there: the VMA is locked, which freeing it waits for. */
	after = READ_WORD(PLACE_OF(known->entry));
	if (!(after & ENTRY_PRESENT))
		return OUTCOME_OTHER;	/* reclaimed already */
	moved = (before ^ after) & ENTRY_FRAME;
	if (!moved && !(after & ENTRY_RW))
		return OUTCOME_OTHER;
	if (known->entry & (IS_PMD | UNLOCKED) && !is_ours_by_now(known, after, moved))
		return OUTCOME_OTHER;
	if (moved)
		return OUTCOME_WP_COPY;
	/* Nobody was asked: the kernel itself took note of it (UFFD_FEATURE_WP_ASYNC, Linux 6.7). */
	return watched ? OUTCOME_WP_TRACKED : OUTCOME_WP_REUSE;
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
static void note_elsewhere(struct fault *slot, u32 thread, struct fault *known)
{
	struct fault *fault = attempts.lookup(&thread);

	if (!fault || fault->page != known->page) {
		remember_attempt(slot, thread, known);
	} else {
		fault->before = known->before;
		fault->entry = known->entry;
		fault->met = known->met;
		fault->looked = known->looked;
	}
}

/*
 * A fault that was asked for met a write-protected entry, or (@before is 0) may meet one. @looked:
 * when, for an entry that is UNLOCKED.
 */
static void entry_met(u32 thread, u64 page, u64 before, u64 entry, u32 met, u32 looked)
{
	struct fault *fault = slot_of(thread);

	if (is_anothers(fault, thread)) {
		struct fault known = {
			.page = page, .outcome = OUTCOME_OTHER, .before = before, .entry = entry,
			.met = met, .looked = looked,
		};

		note_elsewhere(fault, thread, &known);
		return;
	}
	if (!fault->thread || fault->page != page) {
		if (COSTS)
			fault->started_ns = 0;
		begin(fault, thread, page);
	}
	fault->before = before;
	fault->entry = entry;
	fault->met = met;
	if (looked)
		fault->looked = looked;
}

static u32 met_by(struct vm_fault *vmf)
{
	return met_at_pte(READ(vmf, orig_pte), READ(vmf, vma));
}

static int wp_page_begins(struct task_struct *current, struct vm_fault *vmf)
{
	u64 ids = IDS_OF(current);
	u32 thread = ids;
	struct fault *fault = slot_of(thread);

	if (EACH_BEGINS && fault->thread == thread) {
		fault->before = READ(vmf, orig_pte);
		fault->entry = (u64)READ(vmf, pte);
		fault->met = met_by(vmf);
		return 0;
	}
	/* Had it been asked for, the slot would not be free. */
	if (EACH_BEGINS && !fault->thread)
		return 0;
	if (fault_asked_for(current, ids, READ(vmf, flags)))
		entry_met(thread, READ(vmf, address) & PAGE_MASK, READ(vmf, orig_pte),
			  (u64)READ(vmf, pte), met_by(vmf), 0);
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

static void count_fault(void *table, struct vma_record *record, u32 place, u64 outcome,
			u64 duration_ns)
{
	struct timing *timing;

	_Static_assert(!(OUTCOMES & (OUTCOMES - 1)), "OUTCOMES - 1 is a mask");
	/* What it can be is to be seen where it is used. */
	asm volatile("" : "+r"(outcome));
	outcome &= OUTCOMES - 1;
	COUNT(record->counted.write_faults[outcome], 1);
	if (!duration_ns)
		return;
	timing = timing_of(table, record, place, outcome);
	if (!timing)
		return;
	COUNT(timing->ns, duration_ns);
	COUNT(timing->log2[duration_ns >> 32 ? 31 : log2_of(duration_ns)], 1);
}

/* The program's own writes are the rest: user space knows how many. */
static void count_origin(struct vma_record *record, u32 origin)
{
	if (origin == ORIGIN_REMOTE)
		COUNT(record->counted.write_faults_origin[ORIGIN_REMOTE], 1);
	else if (origin == ORIGIN_KERNEL)
		COUNT(record->counted.write_faults_origin[ORIGIN_KERNEL], 1);
}

static void count_protector(struct vma_record *record, bool copied, u64 protector)
{
	/* What it can be is to be seen where it is used. */
	asm volatile("" : "+r"(protector));
	protector &= PROTECTED_BYS - 1;
	if (copied)
		COUNT(record->counted.wp_protected_by[WP_OUTCOME_WP_COPY][protector], 1);
	else
		COUNT(record->counted.wp_protected_by[WP_OUTCOME_WP_REUSE][protector], 1);
}

/*
 * Put what is known of a fault's earlier attempts to @known, which is of the last one. An
 * attempt that is to be repeated is no fault yet: false.
 */
static bool is_complete(struct fault *slot, struct fault *known, u32 thread, u64 vm_flags,
			u32 result)
{
	struct fault *before = attempts.lookup(&thread);

	if (before && before->page == known->page) {
		/* Noted there, for want of the slot. */
		if (known->outcome == OUTCOME_OTHER) {
			known->outcome = wp_outcome(before, vm_flags, result);
			known->before = before->before;
			known->met = before->met;
		}
		before->before = 0;
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

/* Whether what was the VMA of @page still is: where it is not locked it may be another by now. */
static bool still_maps(struct task_struct *current, struct vm_area_struct *vma, u64 page)
{
	return READ(vma, vm_mm) == TASK_READ(current, mm) && READ(vma, vm_start) <= page &&
	       page < READ(vma, vm_end);
}

/* @fault: the thread's slot, whoever has it. */
static int fault_done(void *ctx, struct task_struct *current, u64 ids, struct fault *fault,
		      struct vm_area_struct *vma, u64 page, u32 flags, u32 result)
{
	u64 vm_flags = READ(vma, vm_flags), spent_ns = 0, before = fault->before;
	/* 64 bits each: of fewer, the others are cleared wherever they are used. */
	u64 outcome = OUTCOME_OTHER, met = fault->met;
	u32 thread = ids, origin;
	struct vma_record *record;
	struct subject subject;
	void *table;

	if (fault->thread == thread) {
		if (fault->page == page) {
			outcome = wp_outcome(fault, vm_flags, result);
			if (COSTS && fault->started_ns)
				spent_ns = bpf_ktime_get_ns() - fault->started_ns;
		}
		fault->thread = 0;
	}
	if (fault->unfinished || result & VM_FAULT_RETRY) {
		struct fault known = {
			.page = page, .spent_ns = spent_ns, .outcome = outcome, .before = before,
			.met = met,
		};

		if (!is_complete(fault, &known, thread, vm_flags, result))
			return 0;
		spent_ns = known.spent_ns;
		outcome = known.outcome;
		before = known.before;
		met = known.met;
	}
	if (result & VM_FAULT_ERROR)
		outcome = OUTCOME_ERROR;
	if (is_foreign(current, flags)) {
		subject = subject_of(vma);
		if (!subject.leader || !asked_for(subject.tgid, subject.leader))
			return 0;
	} else {
		subject = subject_current(current, ids >> 32);
	}
	table = table_in_use();
	if (!table)
		return 0;
	if (result & VM_FAULT_COMPLETED && !still_maps(current, vma, page))
		record = remainder_of(table, &subject, &fault->place);
	else
		record = record_at(table, vma, vm_flags, &subject, &fault->place);
	if (!record)
		return 0;
	count_fault(table, record, fault->place, outcome, COSTS ? spent_ns : 0);
	origin = origin_of(current, flags);
	note_fault(ctx, table, record, outcome, origin);
	count_origin(record, origin);
	if (outcome == OUTCOME_WP_REUSE || outcome == OUTCOME_WP_COPY)
		count_protector(record, outcome == OUTCOME_WP_COPY,
				protector_of(record, subject.leader, vm_flags, page, before, met,
					     outcome == OUTCOME_WP_COPY));
	return 0;
}
