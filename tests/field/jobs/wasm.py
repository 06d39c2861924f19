"""WebAssembly modules are compiled, and instances of them grow their memories page by page."""

import sys

from wasmtime import Engine, Instance, Module, Store

TEXT = """
(module
  (memory (export "memory") 1 64)
  (func (export "run") (param $n i32) (result i32)
    (local $i i32)
    (loop $again
      (drop (memory.grow (i32.const 1)))
      (i32.store (i32.mul (local.get $i) (i32.const 65536)) (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_s (local.get $i) (local.get $n))))
    (i32.add (memory.size) (i32.const {number}))))
"""

engine = Engine()
total = 0
for number in range(int(sys.argv[1])):
    module = Module(engine, TEXT.replace("{number}", str(number)))
    store = Store(engine)
    run = Instance(store, module, []).exports(store)["run"]
    total += run(store, 32)
print(total)
