/* SPDX-License-Identifier: GPL-2.0-only */
/* BCC includes it, and needs nothing of it. */
