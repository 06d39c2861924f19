"""A live set whose entries are replaced at random."""

import random
import sys

random.seed(1)
live: list[list[int]] = [[]] * 4096
total = 0
for made in range(int(sys.argv[1])):
    place = random.randrange(len(live))
    live[place] = [made] * random.randrange(64)
    total += len(live[place])
print(total)
