/* SPDX-License-Identifier: GPL-2.0-only */
/* What BCC's own headers name; structs come with the programs (pte_trace/kernel/kernel_types.py). */
#ifndef _LINUX_TYPES_H
#define _LINUX_TYPES_H
typedef unsigned char __u8, u8, uint8_t;
typedef signed char __s8, s8, int8_t;
typedef unsigned short __u16, u16, uint16_t, __be16, __le16, __sum16;
typedef short __s16, s16, int16_t;
typedef unsigned int __u32, u32, uint32_t, __be32, __le32, __wsum;
typedef int __s32, s32, int32_t, pid_t;
typedef unsigned long long __u64, u64, uint64_t, __be64, __le64;
typedef long long __s64, s64, int64_t;
typedef unsigned long size_t, uintptr_t;
typedef long ssize_t;
typedef _Bool bool;
enum { false, true };
#define NULL ((void *)0)
#define __bitwise
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#endif
