// SPDX-License-Identifier: MIT
// Echo serve|select|talk tcp|unix PORT|PATH: the JVM's sockets. serve: a thread for each caller; select: one thread and a Selector for all.

import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.util.*;
import java.util.concurrent.*;

public class Echo {
	static boolean tcp;
	static SocketAddress address;

	interface Task {
		void run() throws Exception;
	}

	static void check(boolean right, String what) {
		if (!right)
			throw new IllegalStateException(what);
	}

	// java.net for TCP where it serves by threads; channels otherwise.

	static ServerSocketChannel open() throws IOException {
		ServerSocketChannel listener = ServerSocketChannel.open(tcp ? StandardProtocolFamily.INET : StandardProtocolFamily.UNIX);
		listener.bind(address, 100);
		return listener;
	}

	static void echo(Socket socket) {
		try (socket) {
			socket.getInputStream().transferTo(socket.getOutputStream());
		} catch (IOException e) {
			// a client that left without reading all
		}
	}

	static void echo(SocketChannel channel) {
		ByteBuffer bytes = ByteBuffer.allocateDirect(65536);
		try (channel) {
			while (channel.read(bytes) >= 0) {
				bytes.flip();
				while (bytes.hasRemaining())
					channel.write(bytes);
				bytes.clear();
			}
		} catch (IOException e) {
			// likewise
		}
	}

	static void serve() throws IOException {
		if (tcp) {
			ServerSocket listener = new ServerSocket();
			listener.bind(address, 100);
			while (true) {
				Socket socket = listener.accept();
				new Thread(() -> echo(socket)).start();
			}
		}
		ServerSocketChannel listener = open();
		while (true) {
			SocketChannel channel = listener.accept();
			new Thread(() -> echo(channel)).start();
		}
	}

	// What was read is to be written before more is read.
	static void turn(SelectionKey key) throws IOException {
		SocketChannel channel = (SocketChannel) key.channel();
		ByteBuffer bytes = (ByteBuffer) key.attachment();
		if (key.isReadable()) {
			if (channel.read(bytes.clear()) < 0) {
				channel.close();
				return;
			}
			bytes.flip();
		}
		channel.write(bytes);
		key.interestOps(bytes.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
	}

	static void select() throws IOException {
		Selector selector = Selector.open();
		ServerSocketChannel listener = open();
		listener.configureBlocking(false).register(selector, SelectionKey.OP_ACCEPT);
		while (true) {
			selector.select();
			for (Iterator<SelectionKey> i = selector.selectedKeys().iterator(); i.hasNext(); i.remove()) {
				SelectionKey key = i.next();
				if (key.isAcceptable()) {
					SocketChannel channel = listener.accept();
					if (channel != null)
						channel.configureBlocking(false).register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536).flip());
				} else {
					try {
						turn(key);
					} catch (IOException e) { // a client that left without reading all
						key.channel().close();
					}
				}
			}
		}
	}

	// --- the client

	static SocketChannel dial() throws IOException {
		return SocketChannel.open(address);
	}

	static byte[] random(int size) {
		byte[] bytes = new byte[size];
		new Random(size).nextBytes(bytes);
		return bytes;
	}

	static byte[] readAll(SocketChannel channel) throws IOException {
		ByteArrayOutputStream all = new ByteArrayOutputStream();
		ByteBuffer bytes = ByteBuffer.allocate(30000);
		while (channel.read(bytes.clear()) >= 0)
			all.write(bytes.array(), 0, bytes.position());
		return all.toByteArray();
	}

	static void whole(int size) throws Exception {
		byte[] sent = random(size);
		try (SocketChannel channel = dial()) {
			Thread writer = new Thread(() -> {
				try {
					ByteBuffer bytes = ByteBuffer.wrap(sent);
					while (bytes.hasRemaining())
						channel.write(bytes);
					channel.shutdownOutput();
				} catch (IOException e) {
					System.err.println("writer: " + e);
				}
			});
			writer.start();
			byte[] got = readAll(channel);
			writer.join();
			check(Arrays.equals(got, sent), "sent " + size + " bytes, got " + got.length + ", equal or not");
		}
	}

	static void turns() throws Exception {
		try (SocketChannel channel = dial()) {
			for (int i = 0; i < 200; i++) {
				byte[] line = ("turn " + i).getBytes();
				ByteBuffer got = ByteBuffer.allocate(line.length);
				channel.write(ByteBuffer.wrap(line));
				while (got.hasRemaining() && channel.read(got) >= 0)
					;
				check(Arrays.equals(got.array(), line), "turn " + i);
			}
			channel.shutdownOutput();
			check(channel.read(ByteBuffer.allocate(1)) == -1, "something after the end");
		}
	}

	// java.net's sockets know time-outs, and tell a reader when another thread closes.
	static void oldSockets() throws Exception {
		try (Socket socket = new Socket()) {
			socket.connect(address, 20000);
			socket.setSoTimeout(100);
			try {
				socket.getInputStream().read();
				check(false, "no time-out");
			} catch (SocketTimeoutException e) {
				socket.setSoTimeout(20000);
			}
			socket.getOutputStream().write("late".getBytes());
			check(new String(socket.getInputStream().readNBytes(4)).equals("late"), "late answer");
			closedUnder(socket, () -> socket.getInputStream().read());
		}
	}

	static void closedUnder(Closeable socket, Task read) throws Exception {
		FutureTask<String> reader = new FutureTask<>(() -> {
			try {
				read.run();
				return "read";
			} catch (SocketException | ClosedChannelException e) {
				return "closed";
			}
		});
		Thread thread = new Thread(reader);
		thread.start();
		Thread.sleep(50);
		socket.close();
		check(reader.get(20, TimeUnit.SECONDS).equals("closed"), "a reader whose socket was closed went on");
	}

	static void selected() throws Exception {
		try (SocketChannel channel = dial(); Selector selector = Selector.open()) {
			channel.configureBlocking(false).register(selector, SelectionKey.OP_READ);
			check(selector.select(100) == 0, "selected for nothing");
			channel.write(ByteBuffer.wrap("late".getBytes()));
			check(selector.select(20000) == 1, "not selected");
		}
		SocketChannel channel = dial();
		closedUnder(channel, () -> channel.read(ByteBuffer.allocate(1)));
	}

	static void shortOnes() throws Exception {
		for (int i = 0; i < 40; i++)
			whole(8);
	}

	static void talk() throws Exception {
		List<Task> tasks = new ArrayList<>(List.of(Echo::turns, Echo::selected, Echo::shortOnes));
		for (int size : new int[] {1, 100, 5000, 70001, 1000000, 300000})
			tasks.add(() -> whole(size));
		if (tcp)
			tasks.add(Echo::oldSockets);
		ExecutorService threads = Executors.newCachedThreadPool();
		List<Future<?>> ends = new ArrayList<>();
		for (Task task : tasks)
			ends.add(threads.submit(() -> {
				task.run();
				return null;
			}));
		for (Future<?> end : ends)
			end.get(40, TimeUnit.SECONDS);
		System.out.println("ok");
		System.exit(0);
	}

	public static void main(String[] args) throws Exception {
		tcp = args[1].equals("tcp");
		address = tcp ? new InetSocketAddress("127.0.0.1", Integer.parseInt(args[2])) : UnixDomainSocketAddress.of(args[2]);
		switch (args[0]) {
		case "serve" -> serve();
		case "select" -> select();
		default -> talk();
		}
	}
}
