<?php
// Has PHP's JIT compile so many functions of their own, each of which runs until it is hot.
$sum = 0;
for ($number = 1; $number <= (int)$argv[1]; $number++) {
    $compiled = eval("return function (\$a) { for (\$i = 1; \$i < 300; \$i++) { \$a += \$i * $number % 7; } return \$a; };");
    $sum += $compiled(0);
}
echo $sum, "\n";
