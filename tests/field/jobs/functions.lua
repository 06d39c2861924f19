-- Has LuaJIT compile so many functions of their own, each of which runs until it is hot.
local functions = tonumber(arg[1])
local sum = 0
for number = 1, functions do
   local text = "local a, b = ... for i = 1, 200 do a = a + i * %d % b end return a"
   local compiled = load((text:gsub("%%d", number)))
   sum = sum + compiled(0, number + 1)
end
print(sum)
