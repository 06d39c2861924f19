// A live set whose entries are replaced at random.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"strconv"
)

func main() {
	made, _ := strconv.Atoi(os.Args[1])
	random := rand.New(rand.NewSource(1))
	live := make([][]byte, 4096)
	sum := 0
	for ; made > 0; made-- {
		place := random.Intn(len(live))
		live[place] = make([]byte, random.Intn(4096))
		sum += len(live[place])
	}
	var found runtime.MemStats
	runtime.ReadMemStats(&found)
	fmt.Println(sum, found.NumGC > 0)
}
