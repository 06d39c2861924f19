# A live set whose entries are replaced at random, and a child that collects garbage.
random = Random.new(1)
live = Array.new(4096)
sum = 0
Integer(ARGV[0]).times do |made|
  place = random.rand(live.size)
  live[place] = Array.new(random.rand(64), made.to_s)
  sum += live[place].size
end
Process.wait(fork { GC.start })
puts sum
