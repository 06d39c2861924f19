// A live set whose entries are replaced, by functions that become hot.
const live = new Array(4096);
let sum = 0;
let state = 1;
for (let made = 0; made < Number(process.argv[2]); made++) {
  state = (state * 1103515245 + 12345) % 2147483648;
  const place = state % live.length;
  live[place] = { text: `entry ${made}`, values: new Array(state % 64).fill(made) };
  sum += live[place].values.length;
}
console.log(sum);
