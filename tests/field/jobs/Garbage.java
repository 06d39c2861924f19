import java.util.Random;

/** A live set whose entries are replaced at random. */
class Garbage {
    public static void main(String[] arguments) {
        byte[][] live = new byte[4096][];
        Random random = new Random(1);
        long sum = 0;
        for (int made = 0; made < Integer.parseInt(arguments[0]); made++) {
            int place = random.nextInt(live.length);
            live[place] = new byte[random.nextInt(4096)];
            sum += live[place].length;
        }
        System.out.println(sum);
    }
}
