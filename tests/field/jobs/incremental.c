/*
 * A tree that is changed at random while libgc collects incrementally: it write-protects the pages
 * of its heap by mprotect(), and learns by SIGSEGV which were written to.
 */
#include <gc/gc.h>
#include <stdio.h>
#include <stdlib.h>

struct node {
	struct node *left, *right;
	long payload[6];
};

static struct node *tree(int depth)
{
	struct node *node = GC_MALLOC(sizeof(*node));

	if (depth > 0) {
		node->left = tree(depth - 1);
		node->right = tree(depth - 1);
	}
	return node;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 10;
	unsigned long state = 1;
	struct node *root;

	GC_INIT();
	GC_enable_incremental();
	root = tree(16);
	for (int round = 0; round < rounds; round++) {
		for (int change = 0; change < 500; change++) {
			struct node *node = root;

			state = state * 6364136223846793005UL + 1442695040888963407UL;
			for (int level = 0; level < 8; level++)
				node = (state >> (40 + level)) & 1 ? node->left : node->right;
			node->left = tree(7);
		}
		GC_gcollect();
	}
	printf("%lu collections\n", (unsigned long)GC_get_gc_no());
	return 0;
}
