package icecore;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.Random;

import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.runtime.state.KeyGroupRange;
import org.apache.flink.runtime.state.KeyGroupRangeAssignment;

/**
 * Prints key-group vectors, computed by Flink's own classes, to standard output. The same run gives
 * the same bytes: the only random source is seeded.
 */
public final class Vectors {
    private static final long SEED = 20240229L;
    private static final int[] MAX_PARALLELISMS = {1, 2, 7, 100, 127, 128, 129, 256, 720, 1000, 4096, 32767, 32768};
    private static final int CASES_PER_TYPE = 1700;

    private final Random random = new Random(SEED);
    private final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    public static void main(String[] args) {
        new Vectors().run();
    }

    private void run() {
        out.println("# type key hashCode maxParallelism keyGroup parallelism subtask");
        keys();
        out.println("# range maxParallelism parallelism subtask first last");
        ranges();
        out.println("# default parallelism maxParallelism");
        defaults();
        out.flush();
    }

    private void keys() {
        for (boolean value : new boolean[] {false, true}) {
            for (int max : MAX_PARALLELISMS) {
                key("bool", Boolean.toString(value), Boolean.hashCode(value), max);
            }
        }
        for (int i = 0; i < CASES_PER_TYPE; i++) {
            int number = someInt(i);
            key("i32", Integer.toString(number), Integer.valueOf(number).hashCode(), someMax());
            long wide = someLong(i);
            key("i64", Long.toString(wide), Long.valueOf(wide).hashCode(), someMax());
            String text = someString(i % 24);
            key("str", hex(text), text.hashCode(), someMax());
            byte[] bytes = new byte[i % 18];
            random.nextBytes(bytes);
            key("bytes", HexFormat.of().formatHex(bytes), Arrays.hashCode(bytes), someMax());
            List<Long> list = new ArrayList<>();
            for (int n = 0; n < i % 4; n++) {
                list.add(someLong(random.nextInt(CASES_PER_TYPE)));
            }
            key("list_i64", list.toString().replaceAll("[\\[\\] ]", ""), list.hashCode(), someMax());
            Tuple2<Long, String> pair = Tuple2.of(someLong(i), someString(i % 6));
            key("tuple_i64_str", pair.f0 + "," + hex(pair.f1), pair.hashCode(), someMax());
            Tuple3<Integer, Boolean, String> triple = Tuple3.of(someInt(i), random.nextBoolean(), someString(i % 5));
            key("tuple_i32_bool_str", triple.f0 + "," + triple.f1 + "," + hex(triple.f2), triple.hashCode(), someMax());
        }
        for (int i = 0; i < 100; i++) {
            Optional<Integer> value = i == 0 ? Optional.empty() : Optional.of(someInt(i));
            key("option_i32", value.map(Object::toString).orElse("none"), value.hashCode(), someMax());
            short small = (short) random.nextInt();
            key("i16", Short.toString(small), Short.hashCode(small), someMax());
            byte tiny = (byte) random.nextInt();
            key("i8", Byte.toString(tiny), Byte.hashCode(tiny), someMax());
        }
    }

    private void key(String type, String key, int hashCode, int max) {
        int group = KeyGroupRangeAssignment.computeKeyGroupForKeyHash(hashCode, max);
        // An Integer is its own hash code, so Flink's entry points for whole keys can be asked too.
        if (group != KeyGroupRangeAssignment.assignToKeyGroup(hashCode, max)) {
            throw new IllegalStateException("Flink disagrees with itself");
        }
        int parallelism = 1 + random.nextInt(max);
        int subtask = KeyGroupRangeAssignment.assignKeyToParallelOperator(hashCode, max, parallelism);
        out.println(type + " " + (key.isEmpty() ? "-" : key) + " " + hashCode + " " + max + " " + group + " "
                + parallelism + " " + subtask);
    }

    private void ranges() {
        for (int max : MAX_PARALLELISMS) {
            for (int parallelism = 1; parallelism <= Math.min(max, 9); parallelism++) {
                for (int subtask = 0; subtask < parallelism; subtask++) {
                    range(max, parallelism, subtask);
                }
            }
            for (int i = 0; i < 60; i++) {
                int parallelism = 1 + random.nextInt(max);
                range(max, parallelism, random.nextInt(parallelism));
            }
            range(max, max, max - 1);
        }
    }

    private void range(int max, int parallelism, int subtask) {
        KeyGroupRange range = KeyGroupRangeAssignment.computeKeyGroupRangeForOperatorIndex(max, parallelism, subtask);
        out.println("range " + max + " " + parallelism + " " + subtask + " " + range.getStartKeyGroup() + " "
                + range.getEndKeyGroup());
    }

    private void defaults() {
        for (int parallelism = 1; parallelism <= 400; parallelism++) {
            byDefault(parallelism);
        }
        for (int power = 256; power <= 32768; power *= 2) {
            for (int parallelism : new int[] {power * 2 / 3, power * 2 / 3 + 1, power - 1, power, power + 1}) {
                if (parallelism <= 32768) {
                    byDefault(parallelism);
                }
            }
        }
    }

    private void byDefault(int parallelism) {
        out.println("default " + parallelism + " "
                + KeyGroupRangeAssignment.computeDefaultMaxParallelism(parallelism));
    }

    private int someMax() {
        return MAX_PARALLELISMS[random.nextInt(MAX_PARALLELISMS.length)];
    }

    private int someInt(int i) {
        int[] edges = {0, 1, -1, Integer.MAX_VALUE, Integer.MIN_VALUE, 127, 128, -128, -129, 65535, 65536};
        return i < edges.length ? edges[i] : random.nextInt();
    }

    private long someLong(int i) {
        long[] edges = {0, 1, -1, Long.MAX_VALUE, Long.MIN_VALUE, Integer.MAX_VALUE, Integer.MIN_VALUE,
            1L << 32, (1L << 32) - 1, -(1L << 32)};
        return i < edges.length ? edges[i] : random.nextLong() >> random.nextInt(64);
    }

    /** A string of so many code points: ASCII, Latin, CJK and beyond the basic plane; no lone surrogates. */
    private String someString(int codePoints) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < codePoints; i++) {
            switch (random.nextInt(8)) {
                case 0 -> text.appendCodePoint(random.nextInt(0x20));
                case 1 -> text.appendCodePoint(0x80 + random.nextInt(0x700));
                case 2 -> text.appendCodePoint(0x4e00 + random.nextInt(0x5000));
                case 3 -> text.appendCodePoint(0x10000 + random.nextInt(0x100000));
                default -> text.appendCodePoint(0x20 + random.nextInt(0x5f));
            }
        }
        return text.toString();
    }

    private static String hex(String text) {
        return HexFormat.of().formatHex(text.getBytes(StandardCharsets.UTF_8));
    }
}
