/* SPDX-License-Identifier: GPL-2.0-only */
/* Written by `make layout` from pte_trace/counted/counters.py, where each counter is declared. */

/* Why protection was changed, from change_protection()'s cp_flags. */
enum cause {
	CAUSE_MPROTECT,
	CAUSE_NUMA_HINT,
	CAUSE_UFFD_WP,
	CAUSE_UFFD_UNPROTECT,
	CAUSES
};

/* How a write fault ended. */
enum outcome {
	OUTCOME_WP_REUSE,
	OUTCOME_WP_COPY,
	OUTCOME_WP_SHARED,
	OUTCOME_WP_UFFD,
	OUTCOME_WP_TRACKED,
	OUTCOME_UFFD_MISSING,
	OUTCOME_OTHER,
	OUTCOME_ERROR,
	OUTCOMES
};

/* Which of them. */
enum wp_outcome {
	WP_OUTCOME_WP_REUSE,
	WP_OUTCOME_WP_COPY,
	WP_OUTCOMES
};

/* What had write-protected the page that a write fault met. */
enum protected_by {
	PROTECTED_BY_UNKNOWN,
	PROTECTED_BY_MPROTECT,
	PROTECTED_BY_UFFD_UNPROTECT,
	PROTECTED_BY_NUMA_HINT,
	PROTECTED_BY_FORK,
	PROTECTED_BY_SOFT_DIRTY,
	PROTECTED_BY_UFFD_WP,
	PROTECTED_BY_NEVER_WRITABLE,
	PROTECTED_BYS
};

/* Who wrote. */
enum origin {
	ORIGIN_USER,
	ORIGIN_KERNEL,
	ORIGIN_REMOTE,
	ORIGINS
};

/* Why a PTE was left read-only by a change that asked for writable ones: the first that holds. */
enum reason {
	REASON_CLEAN,
	REASON_SOFT_DIRTY,
	REASON_UFFD_WP,
	REASON_SHARED,
	REASONS
};

/* Why a huge page was left read-only by a change that asked for writable ones: the first that holds. */
enum pmd_reason {
	PMD_REASON_HUGETLB,
	PMD_REASON_UFFD_WP,
	PMD_REASON_SOFT_DIRTY,
	PMD_REASON_HUGE,
	PMD_REASON_SHARED,
	PMD_REASONS
};

/* Why PTEs that such a change processed were not looked at. */
enum omission {
	OMISSION_HUGE,
	OMISSION_LIMIT,
	OMISSIONS
};

struct counters {
	__u64 protection_changes[CAUSES];
	__u64 ptes_changed[CAUSES];
	__u64 ptes_inspected;
	__u64 ptes_made_writable[CAUSES];
	__u64 ptes_left_readonly[REASONS];
	__u64 ptes_not_inspected[OMISSIONS];
	__u64 pmds_made_writable[CAUSES];
	__u64 pmds_left_readonly[PMD_REASONS];
	__u64 pmds_split;
	__u64 write_faults[OUTCOMES];
	__u64 wp_protected_by[WP_OUTCOMES][PROTECTED_BYS];
	__u64 write_faults_origin[ORIGINS];
	__u64 ptes_protected_by_fork;
	__u64 pmds_protected_by_fork;
};
