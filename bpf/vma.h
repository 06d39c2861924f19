/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The record of a VMA: found, or made when the VMA is first seen. All that
 * tells what it is is taken then, for the process may be gone a moment later.
 */

#define PAGE_MASK	(~0xfffULL)
#define VM_SHARED	0x00000008ULL
#define VM_HUGETLB	0x00400000ULL
#define TMPFS_MAGIC	0x01021994
#define PATH_DEPTH	64
#define COMPONENT_SIZE	256	/* NAME_MAX and its NUL */
#define CLAIMS		16
#define ANON_NAME_SIZE	80	/* ANON_VMA_NAME_MAX_LEN */

/*
 * Records are counted into one of two tables. User space swaps them, reads the idle
 * one and clears it; updating an array of maps waits for all running programs
 * (maybe_wait_bpf_programs()), so an idle table is never written by one again.
 *
 * A table is an array: where its index is known, a record is had at next to no cost.
 * First come heads that are of no VMA: their claims count how many of those behind were
 * given away, which are records of VMAs, then of processes whose VMAs found no room
 * ("remainders"). What finds no room there either is counted in the second one. The third
 * one counts what was given away of the half of `timings` that goes with the table; which
 * half that is, is its `kind`.
 */
#define RECORDS		0
#define REMAINDERS	1
#define TIMINGS		2
#define FIRST_RECORD	3
#define FIRST_REMAINDER	(FIRST_RECORD + MAX_RECORDS)
#define TABLE_SIZE	(FIRST_REMAINDER + MAX_REMAINDERS)
BPF_F_TABLE("array", u32, struct vma_record, records_a, TABLE_SIZE, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct vma_record, records_b, TABLE_SIZE, BPF_F_MMAPABLE);
BPF_ARRAY_OF_MAPS(active_records, "records_a", 1);

/* The first one of each half is nobody's: a record's place of its timing is 0 where it has none. */
#define HALF_OF_TIMINGS	(1 + MAX_TIMINGS)
BPF_F_TABLE("array", u32, struct timing, timings, 2 * HALF_OF_TIMINGS, BPF_F_MMAPABLE);

/*
 * Where the record of a VMA was last, by a hash of its key. Nothing is lost where this is wrong
 * or gone: a record tells whose it is, and user space adds up those of one VMA.
 */
struct place {
	u32 index;
	u8 protector;		/* as in the record, which is a new one in each interval */
	u8 protector_before;
	u8 inherited;
	u8 reserved;
	u32 fork_due;
	u32 unused;
};

BPF_TABLE("lru_hash", u64, struct place, places, MAX_PLACES);

/*
 * When mmap() made a mapping: tells a mapping put where another one was from a
 * part that mprotect() split off. Losing old ones costs two rows for one. The
 * key is what a struct vma_key begins with.
 */
struct birth {
	u64 image;
	u64 start;
	u64 end;
	u32 tgid;
	u32 reserved;
};

BPF_TABLE("lru_hash", struct birth, u64, births, MAX_BIRTHS);

/*
 * The files of the records, in two tables as well: a name is taken anew for each
 * interval, so that none is kept for a file long gone. User space swaps these
 * first and waits, so a record of the new table has its file in the new one; of
 * the old table, in either.
 */
BPF_TABLE("hash", struct file_key, struct file_record, files_a, MAX_FILES);
BPF_TABLE("hash", struct file_key, struct file_record, files_b, MAX_FILES);
BPF_ARRAY_OF_MAPS(active_files, "files_a", 1);

BPF_ARRAY(health, struct health_record, 1);

/* Never written: what a new entry is made from, too large for the stack. */
BPF_ARRAY(blank_file, struct file_record, 1);

#define COUNT(counter, by) __sync_fetch_and_add(&(counter), by)

/*
 * Where a file is, as the process that mapped it opened it: the file of an
 * overlay keeps that beside it (def3ae83da02, Linux 6.7). FMODE_BACKING tells
 * such a file, but is bit 25 up to Linux 6.13 and bit 24 since, so a path is
 * believed only where its mount and its dentry are of one file system.
 */
static struct path path_of(struct file *file)
{
#ifdef HAVE_USER_PATH
	if (PROBE(file, f_mode) & (1U << 24 | 1U << 25)) {
		struct path path = PROBE((struct backing_file *)file, user_path);
		struct super_block *sb = PROBE(path.dentry, d_sb);

		if (sb && PROBE(path.mnt, mnt_sb) == sb)
			return path;
	}
#endif
	return PROBE(file, f_path);
}

/*
 * Walk from the file upwards over mount points, as d_path() does. The length
 * is read back from the record on each turn: what comes from a map is just an
 * unknown number to the verifier, so all turns look alike to it. Kept in a
 * register, its range would differ on every path through the loop.
 */
static void capture_components(struct path path, struct file_record *record)
{
	struct dentry *dentry = path.dentry, *root = PROBE(path.mnt, mnt_root);
	struct mount *mount = (void *)path.mnt - MOUNT_MNT_OFFSET;
	volatile u32 *filled = &record->length;

	record->cut = 1;
	for (int depth = 0; depth < PATH_DEPTH; depth++) {
		struct dentry *parent = PROBE(dentry, d_parent);
		u32 length = *filled;
		long copied;

		if (dentry == root) {
			struct mount *above = PROBE(mount, mnt_parent);
			struct vfsmount *vfsmount = (void *)above + MOUNT_MNT_OFFSET;

			if (above == mount) {
				record->cut = 0;
				break;
			}
			dentry = PROBE(mount, mnt_mountpoint);
			root = PROBE(vfsmount, mnt_root);
			mount = above;
			continue;
		}
		if (length > sizeof(record->components) - COMPONENT_SIZE)
			break;
		copied = bpf_probe_read_kernel_str(&record->components[length], COMPONENT_SIZE,
						   PROBE(dentry, d_name.name));
		if (copied <= 0)
			break;
		*filled = length + copied;
		if (dentry == parent) {
			record->cut = 0;
			break;
		}
		dentry = parent;
	}
}

static struct file_record *new_name(void *files, struct file_key *key)
{
	struct file_record *record;
	int zero = 0;

	record = blank_file.lookup(&zero);
	if (!record)
		return NULL;
	bpf_map_update_elem(files, key, record, BPF_ANY);
	record = bpf_map_lookup_elem(files, key);
	if (!record) {
		struct health_record *lost = health.lookup(&zero);

		if (lost)
			COUNT(lost->paths_full, 1);
	}
	return record;
}

/* Mixes a word into a hash. */
static u64 mixed(u64 hash, u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/*
 * Tells apart the paths of files that have device and inode in common: a file's of several names, in
 * several mount namespaces, and other files (of btrfs's subvolumes, of IPC namespaces). The lowest
 * bit is whether it was deleted. A path that is taken anew is the same as long as it is there.
 */
static u32 path_key(struct path path)
{
	struct dentry *dentry = path.dentry;
	u64 hash = mixed(mixed((u64)dentry, (u64)path.mnt), PROBE(dentry, d_name.hash_len));

	hash = mixed(hash, (u64)PROBE(dentry, d_parent));
	return (u32)hash << 1 | !PROBE(dentry, d_hash.pprev);
}

/* Takes the address of a struct file. Returns its path's key. */
static int (*remember_file)(u64) = LINKED_FUNCTION(0);

int function_0__remember_file(u64 address)
{
	struct file *file = (struct file *)address;
	struct path path = path_of(file);
	struct inode *node = PROBE(file, f_inode);
	struct super_block *sb = PROBE(node, i_sb);
	struct file_key file_key = {
		.inode = PROBE(node, i_ino), .dev = PROBE(sb, s_dev), .path = path_key(path),
	};
	struct file_record *record;
	int zero = 0;
	void *files = active_files.lookup(&zero);

	if (!files || bpf_map_lookup_elem(files, &file_key))
		return file_key.path;
	record = new_name(files, &file_key);
	if (record)
		capture_components(path, record);
	return file_key.path;
}

#ifdef HAVE_CGROUPS
/* Takes the address of a cgroup's struct kernfs_node. Its name outlives the cgroup here. */
static int (*remember_cgroup)(u64) = LINKED_FUNCTION(3);

int function_3__remember_cgroup(u64 address)
{
	struct kernfs_node *node = (struct kernfs_node *)address;
	struct file_key key = {.inode = PROBE(node, id), .dev = CGROUP_NAME};
	struct file_record *record;
	volatile u32 *filled;
	int zero = 0;
	void *files = active_files.lookup(&zero);

	if (!files || bpf_map_lookup_elem(files, &key))
		return 0;
	record = new_name(files, &key);
	if (!record)
		return 0;
	filled = &record->length;
	record->cut = 1;
	for (int depth = 0; depth < CGROUP_DEPTH; depth++) {
		struct kernfs_node *parent = PROBE(node, KERNFS_PARENT);
		u32 length = *filled;
		long copied;

		if (!parent) {
			record->cut = 0;
			break;
		}
		if (length > sizeof(record->components) - COMPONENT_SIZE)
			break;
		copied = bpf_probe_read_kernel_str(&record->components[length], COMPONENT_SIZE,
						   PROBE(node, name));
		if (copied <= 0)
			break;
		*filled = length + copied;
		node = parent;
	}
	return 0;
}

/* Which cgroup a process is in; its name is kept. */
static u64 cgroup_of(struct task_struct *leader)
{
	struct kernfs_node *node = CGROUP_OF(PROBE, leader);

	remember_cgroup((u64)node);
	return PROBE(node, id);
}
#else
static u64 cgroup_of(struct task_struct *leader)
{
	return 0;
}
#endif

#ifdef HAVE_ANON_NAME
/* Returns the hash under which the name is kept, 0 for an empty one. */
static u64 remember_anon_name(void *address)
{
	u64 words[ANON_NAME_SIZE / sizeof(u64)] = {};
	struct file_key key = {.dev = ANON_NAME};
	struct file_record *record;
	int zero = 0;
	void *files = active_files.lookup(&zero);
	long length = bpf_probe_read_kernel_str(words, sizeof(words), address);

	if (length <= 1)
		return 0;
#pragma unroll
	for (u32 word = 0; word < ANON_NAME_SIZE / sizeof(u64); word++)
		key.inode = mixed(key.inode, words[word]);
	if (!files || bpf_map_lookup_elem(files, &key))
		return key.inode;
	record = new_name(files, &key);
	if (record) {
		__builtin_memcpy(record->components, words, sizeof(words));
		record->length = length;
	}
	return key.inode;
}
#endif

/* By execve(), which is still at its stack: what else there is to be comes after that. */
static bool is_being_built(struct mm_struct *mm)
{
	return !PROBE(mm, start_stack);
}

static u32 kind_of(struct vm_area_struct *vma, struct file *file, u64 vm_flags)
{
	struct mm_struct *mm = PROBE(vma, vm_mm);
	u64 start = PROBE(vma, vm_start), end = PROBE(vma, vm_end);
	u64 stack = PROBE(mm, start_stack);

	if (vm_flags & VM_HUGETLB)
		return KIND_HUGETLB;
	if (PROBE(vma, vm_ops)) {
		struct inode *inode;
		struct super_block *sb;

		if (!file)
			return KIND_OTHER;
		inode = PROBE(file, f_inode);
		sb = PROBE(inode, i_sb);
		return PROBE(sb, s_magic) == TMPFS_MAGIC ? KIND_SHMEM : KIND_FILE;
	}
	/* What only touches it is no part of it: so the kernel itself since 11250fd12eb8, Linux 6.6. */
	if (start < PROBE(mm, brk) && end > PROBE(mm, start_brk))
		return KIND_HEAP;
	if (is_being_built(mm) || (start <= stack && end >= stack))
		return KIND_STACK;
	return KIND_ANON;
}

/*
 * The number of the next element that a head gives away, from 1 on; 0 where all @room is. No
 * atomic operation of Linux 5.10 tells what was before, so two CPUs may be given one number.
 */
static u32 given_away(struct vma_record *head, u32 room)
{
	u64 number;

	COUNT(head->claims, 1);
	number = *(volatile u64 *)&head->claims;
	return number <= room ? number : 0;
}

/* Of those who claim an element at most one finds 1. Where none does it stays empty. */
static bool is_ours(u64 *claims)
{
	COUNT(*claims, 1);
	return *(volatile u64 *)claims == 1;
}

/* The index of a record that was nobody's so far, 0 where there is no room. */
static u32 claim(void *table, u32 kind, u32 first, u32 room)
{
	struct vma_record *head = bpf_map_lookup_elem(table, &kind), *record;

	if (!head)
		return 0;
	for (u32 turn = 0; turn < CLAIMS; turn++) {
		u32 number = given_away(head, room), index = first + number - 1;

		record = bpf_map_lookup_elem(table, &index);
		if (!number || !record)
			return 0;
		if (is_ours(&record->claims))
			return index;
	}
	return 0;
}

static u64 hash_of(struct vma_key *key)
{
	u64 *words = (u64 *)key, hash = 0;

#pragma unroll
	for (u32 word = 0; word < sizeof(*key) / sizeof(u64); word++)
		hash = mixed(hash, words[word]);
	return hash;
}

static u64 hash_of_process(struct vma_key *vma)
{
	struct vma_key process = {.image = vma->image, .tgid = vma->tgid};

	return hash_of(&process);
}

/* What write-protected its pages in earlier intervals; or any of the process's, in a new VMA. */
static void recall_protectors(struct vma_record *record, u64 hash)
{
	u64 hash_of_all = hash_of_process(&record->vma);
	struct place *known = places.lookup(&hash);

	if (known) {
		record->inherited = known->inherited;
		record->fork_due = known->fork_due;
	} else {
		known = places.lookup(&hash_of_all);
		record->inherited = 1;
	}
	if (!known)
		return;
	record->protector = known->protector;
	record->protector_before = known->protector_before;
	/* Which of its pages is not known any more: all are taken to be the last one's. */
	record->protected_to = ~0U;
}

static void remember_protectors(struct vma_record *record)
{
	u64 hashes[] = {hash_of(&record->vma), hash_of_process(&record->vma)};
	struct place *known;

#pragma unroll
	for (u32 which = 0; which < 2; which++) {
		struct place none = {};

		known = places.lookup_or_try_init(&hashes[which], &none);
		if (!known)
			continue;
		known->protector = record->protector;
		known->protector_before = record->protector_before;
		known->inherited = record->inherited;
	}
}

/* So many more pages of the VMA, and so of its process, wait for a write since a fork. */
static void count_fork_due(struct vma_record *record, s32 pages)
{
	u64 hashes[] = {hash_of(&record->vma), hash_of_process(&record->vma)};
	struct place *known;

	COUNT(record->fork_due, pages);
#pragma unroll
	for (u32 which = 0; which < 2; which++) {
		struct place none = {};

		known = places.lookup_or_try_init(&hashes[which], &none);
		if (known)
			COUNT(known->fork_due, pages);
	}
}

static struct vma_record *begun(void *table, u32 index, struct vma_key *key,
				struct task_struct *leader)
{
	struct vma_record *record = bpf_map_lookup_elem(table, &index);
	struct place place = {.index = index};
	struct task_struct *parent;
	u64 hash;

	if (!record || !index)
		return NULL;
	record->vma = *key;
	record->first_seen_ns = bpf_ktime_get_ns();
	parent = PROBE(leader, real_parent);
	record->ppid = PROBE(parent, tgid);
	record->uid = PROBE(PROBE(leader, cred), uid.val);
	record->cgroup = cgroup_of(leader);
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), &leader->comm);
	hash = hash_of(key);
	recall_protectors(record, hash);
	place.protector = record->protector;
	place.protector_before = record->protector_before;
	place.inherited = record->inherited;
	place.fork_due = record->fork_due;
	places.update(&hash, &place);
	return record;
}

static bool is_of(struct vma_record *record, struct vma_key *key)
{
	u64 *one = (u64 *)&record->vma, *other = (u64 *)key, differing = 0;

#pragma unroll
	for (u32 word = 0; word < sizeof(*key) / sizeof(u64); word++)
		differing |= one[word] ^ other[word];
	return !differing;
}

/* NULL where there is none, or it is not known where. */
static struct vma_record *found(void *table, struct vma_key *key, u32 *place)
{
	u64 hash = hash_of(key);
	struct place *known = places.lookup(&hash);
	struct vma_record *record;

	if (!known)
		return NULL;
	*place = known->index;
	record = bpf_map_lookup_elem(table, place);
	return record && is_of(record, key) ? record : NULL;
}

/* Where is counted what cannot be put down to a VMA of @subject. */
static struct vma_record *remainder_of(void *table, struct subject *subject, u32 *place)
{
	struct vma_key process = {.image = subject->image, .tgid = subject->tgid};
	struct vma_record *record = found(table, &process, place);

	if (record)
		return record;
	*place = claim(table, REMAINDERS, FIRST_REMAINDER, MAX_REMAINDERS);
	record = begun(table, *place, &process, subject->leader);
	if (record)
		return record;
	*place = REMAINDERS;
	return bpf_map_lookup_elem(table, place);
}

/* How far mremap() moved anonymous memory: it keeps the place where it was first written to. */
static u64 pages_moved(struct vm_area_struct *vma)
{
	return PROBE(vma, vm_start) / (~PAGE_MASK + 1) - PROBE(vma, vm_pgoff);
}

/* Since when memory that was moved so far is known where it is; its parts are from then, too. */
static u64 moved_ns(struct vma_key *key, u64 pages, u64 now)
{
	struct birth birth = {.image = key->image, .start = pages, .tgid = key->tgid};
	u64 *known = births.lookup(&birth);

	if (known)
		return *known;
	births.update(&birth, &now);
	return now;
}

static struct vma_record *first_seen(void *table, struct vma_key *key,
				     struct vm_area_struct *vma, struct subject *subject,
				     u32 *place)
{
	struct file *file = PROBE(vma, vm_file);
	struct vma_record *record;
	u64 *born_ns;

	*place = claim(table, RECORDS, FIRST_RECORD, MAX_RECORDS);
	record = begun(table, *place, key, subject->leader);
	if (!record)
		return remainder_of(table, subject, place);
	if (!file && pages_moved(vma)) {
		record->born_ns = moved_ns(key, pages_moved(vma), record->first_seen_ns);
	} else {
		born_ns = births.lookup((struct birth *)key);
		if (born_ns)
			record->born_ns = *born_ns;
	}
	record->kind = kind_of(vma, file, PROBE(vma, vm_flags));
#ifdef HAVE_ANON_NAME
	if (!file) {
		struct anon_vma_name *anon_name = PROBE(vma, anon_name);

		if (anon_name)
			record->anon_name = remember_anon_name((void *)anon_name + ANON_NAME_OFFSET);
	}
#endif
	if (file)
		record->path = remember_file((u64)file);
	return record;
}

static struct vma_key key_of(struct vm_area_struct *vma, struct subject *subject, u64 vm_flags)
{
	struct file *file = READ(vma, vm_file);
	struct vma_key key = {
		.image = subject->image,
		.tgid = subject->tgid,
		.start = READ(vma, vm_start),
		.end = READ(vma, vm_end),
		.shared = !!(vm_flags & VM_SHARED),
	};

	if (file) {
		struct inode *inode = READ(file, f_inode);
		struct super_block *sb = READ(inode, i_sb);

		key.inode = READ(inode, i_ino);
		key.dev = READ(sb, s_dev);
	}
	return key;
}

/* Like is_of() with the key that key_of() makes, which is not made for it. */
static bool is_of_vma(struct vma_record *record, struct vm_area_struct *vma,
		      struct subject *subject, u64 vm_flags)
{
	struct file *file = READ(vma, vm_file);
	struct super_block *sb;
	struct inode *inode;

	if (record->vma.start != READ(vma, vm_start) || record->vma.end != READ(vma, vm_end) ||
	    record->vma.image != subject->image || record->vma.tgid != subject->tgid ||
	    record->vma.shared != !!(vm_flags & VM_SHARED))
		return false;
	if (!file)
		return !record->vma.inode && !record->vma.dev;
	inode = READ(file, f_inode);
	sb = READ(inode, i_sb);
	return record->vma.inode == READ(inode, i_ino) && record->vma.dev == READ(sb, s_dev);
}

static void *table_in_use(void)
{
	int zero = 0;

	return active_records.lookup(&zero);
}

/* The record of a VMA of @subject. @place: where it may be, and then where it is. */
static struct vma_record *record_at(void *table, struct vm_area_struct *vma, u64 vm_flags,
				    struct subject *subject, u32 *place)
{
	struct vma_record *record;
	struct vma_key key;

	record = bpf_map_lookup_elem(table, place);
	if (!record || !is_of_vma(record, vma, subject, vm_flags)) {
		key = key_of(vma, subject, vm_flags);
		record = found(table, &key, place);
		if (!record)
			record = first_seen(table, &key, vma, subject, place);
	}
	if (record)
		record->vm_flags = vm_flags;
	return record;
}

static struct timing *new_timing(void *table, u32 *index)
{
	u32 kind = TIMINGS;
	struct vma_record *head = bpf_map_lookup_elem(table, &kind);
	struct timing *timing;

	if (!head)
		return NULL;
	for (u32 turn = 0; turn < CLAIMS; turn++) {
		u32 number = given_away(head, MAX_TIMINGS);

		*index = number + (head->kind ? HALF_OF_TIMINGS : 0);
		timing = timings.lookup(index);
		if (!number || !timing)
			return NULL;
		if (is_ours(&timing->claims))
			return timing;
	}
	return NULL;
}

/*
 * Where faults of one outcome in the VMA of the record at @place are timed; NULL where there is no
 * room. Where two CPUs make one at a time there are two, which user space adds up.
 */
static struct timing *timing_of(void *table, struct vma_record *record, u32 place, u32 outcome)
{
	u32 index = record->timings[outcome];
	struct timing *timing;

	if (index)
		return timings.lookup(&index);
	timing = new_timing(table, &index);
	if (!timing) {
		int zero = 0;
		struct health_record *lost = health.lookup(&zero);

		if (lost)
			COUNT(lost->timings_full, 1);
		return NULL;
	}
	timing->record = place;
	timing->outcome = outcome;
	record->timings[outcome] = index;
	return timing;
}

/* An error is a small negative number; no address in user space is. */
static bool is_error(u64 result)
{
	return (s64)result < 0;
}

static int mapping_born(u64 length, u64 result)
{
	struct subject subject = subject_current(CURRENT_TASK(), bpf_get_current_pid_tgid() >> 32);
	struct birth birth = {
		.image = subject.image,
		.start = result,
		.end = result + ((length + ~PAGE_MASK) & PAGE_MASK),
		.tgid = subject.tgid,
	};
	u64 now = bpf_ktime_get_ns();

	if (is_error(result) || !asked_for(subject.tgid, subject.leader))
		return 0;
	births.update(&birth, &now);
	return 0;
}
