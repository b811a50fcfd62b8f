// Moves files to HDFS and back as Hadoop's own client does it best: one JVM, as many threads as asked for, each file
// hashed (SHA-256) on its way. Driven by lines on standard input, so that the JVM is warm and its start not counted:
//
//   put FOLDER TARGET THREADS    create a temporary file, write, hsync, close, rename
//   get SOURCE FOLDER THREADS    open, read, write to a local file, sync
//   remove FOLDER
//
// Answers "ok MILLISECONDS" or "error TEXT" to each.

import java.io.BufferedReader;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.channels.FileChannel;
import java.nio.file.Paths;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

public class HdfsCopy {
  static final int BUFFER_BYTES = 1 << 20;
  static final ThreadLocal<byte[]> BUFFER = ThreadLocal.withInitial(() -> new byte[BUFFER_BYTES]);
  static volatile int sink;

  interface Move {
    void run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    FileSystem hdfs = FileSystem.get(new Configuration());
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = lines.readLine()) != null; ) {
      String[] words = line.split(" ");
      try {
        long begun = System.nanoTime();
        switch (words[0]) {
          case "put" -> put(hdfs, new File(words[1]), words[2], Integer.parseInt(words[3]));
          case "get" -> get(hdfs, words[1], new File(words[2]), Integer.parseInt(words[3]));
          case "remove" -> hdfs.delete(new Path(words[1]), true);
          default -> throw new IllegalArgumentException(line);
        }
        System.out.println("ok " + (System.nanoTime() - begun) / 1e6);
      } catch (Exception error) {
        System.out.println("error " + String.valueOf(error).replace('\n', ' '));
      }
    }
  }

  static void put(FileSystem hdfs, File folder, String target, int threads) throws Exception {
    hdfs.mkdirs(new Path(target));
    List<Move> moves = new ArrayList<>();
    for (File file : folder.listFiles()) {
      moves.add(() -> {
        Path temporary = new Path(target, ".tmp-" + file.getName());
        try (InputStream in = new FileInputStream(file); FSDataOutputStream out = hdfs.create(temporary, false)) {
          pipe(in, out);
          out.hsync();
        }
        if (!hdfs.rename(temporary, new Path(target, file.getName()))) {
          throw new java.io.IOException("no rename of " + temporary);
        }
      });
    }
    all(moves, threads);
  }

  static void get(FileSystem hdfs, String source, File folder, int threads) throws Exception {
    folder.mkdirs();
    List<Move> moves = new ArrayList<>();
    for (FileStatus status : hdfs.listStatus(new Path(source))) {
      moves.add(() -> {
        try (InputStream in = hdfs.open(status.getPath());
            FileOutputStream out = new FileOutputStream(new File(folder, status.getPath().getName()))) {
          pipe(in, out);
          out.getChannel().force(true);
        }
      });
    }
    all(moves, threads);
    try (FileChannel names = FileChannel.open(Paths.get(folder.getPath()), StandardOpenOption.READ)) {
      names.force(true);
    }
  }

  static void pipe(InputStream in, OutputStream out) throws Exception {
    MessageDigest hash = MessageDigest.getInstance("SHA-256");
    byte[] buffer = BUFFER.get();
    for (int got; (got = in.read(buffer)) > 0; ) {
      hash.update(buffer, 0, got);
      out.write(buffer, 0, got);
    }
    sink += hash.digest()[0];
  }

  static void all(List<Move> moves, int threads) throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(threads);
    try {
      List<Future<?>> running = new ArrayList<>();
      for (Move move : moves) {
        running.add(pool.submit(() -> {
          move.run();
          return null;
        }));
      }
      for (Future<?> one : running) {
        one.get();
      }
    } finally {
      pool.shutdown();
    }
  }
}
