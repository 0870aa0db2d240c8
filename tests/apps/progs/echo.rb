# SPDX-License-Identifier: MIT
# echo.rb serve|talk tcp|unix PORT|PATH: Ruby's sockets, a thread for each conversation on both sides.
require 'io/wait'
require 'socket'
require 'timeout'

WHAT, KIND, WHERE = ARGV
Thread.report_on_exception = false

def dial
	KIND == 'tcp' ? Socket.tcp('127.0.0.1', WHERE.to_i, connect_timeout: 20) : UNIXSocket.new(WHERE)
end

def echo(socket)
	loop { socket.write(socket.readpartial(65536)) }
rescue EOFError, SystemCallError # the latter: a client that left without reading all
	socket.close
end

def serve
	server = KIND == 'tcp' ? TCPServer.new('127.0.0.1', WHERE.to_i) : UNIXServer.new(WHERE)
	server.listen(100)
	trap('TERM') { exit!(0) }
	loop { Thread.new(server.accept) { |socket| echo(socket) } }
end

def check(true_or_not, what)
	raise what unless true_or_not
end

def whole(size)
	sent = Random.bytes(size)
	socket = dial
	writer = Thread.new { socket.write(sent); socket.close_write }
	got = socket.read
	writer.join
	check(got == sent, "sent #{size} bytes, got #{got.bytesize}, equal or not")
	socket.close
end

def turns
	socket = dial
	(1..200).each do |i|
		socket.puts("turn #{i}")
		check(socket.gets == "turn #{i}\n", "turn #{i}")
	end
	socket.close_write
	check(socket.gets.nil?, 'something after the end')
end

def times_out
	socket = dial
	check(socket.wait_readable(0.1).nil?, 'ready for nothing')
	check(IO.select([socket], nil, nil, 0.05).nil?, 'selected for nothing')
	check(socket.read_nonblock(1, exception: false) == :wait_readable, 'read something')
	begin
		Timeout.timeout(0.1) { socket.readpartial(1) }
		raise 'no time-out'
	rescue Timeout::Error
	end
	socket.sendmsg('late')
	check(socket.recv(4, Socket::MSG_WAITALL) == 'late', 'late answer')
	socket.close
end

# A thread that is asleep in a read is told when another one closes the socket.
def closed_under
	socket = dial
	reader = Thread.new { socket.readpartial(1) }
	Thread.pass until reader.status == 'sleep'
	socket.close
	begin
		reader.join(20) or raise 'it sleeps on'
		raise 'it read something'
	rescue IOError
	end
end

def short_ones
	40.times do |i|
		socket = dial
		socket.write("call #{i}")
		socket.shutdown(Socket::SHUT_WR)
		check(socket.read == "call #{i}", "call #{i}")
		socket.close
	end
end

def talk
	tasks = [1, 100, 5000, 70_001, 1_000_000, 300_000].map { |size| -> { whole(size) } }
	tasks += [method(:turns), method(:times_out), method(:closed_under), method(:short_ones)]
	failed = false
	tasks.map { |task| Thread.new { task.call } }.each do |thread|
		thread.join
	rescue StandardError => e
		warn "client: #{e.full_message(highlight: false)}"
		failed = true
	end
	puts failed ? 'failed' : 'ok'
end

WHAT == 'serve' ? serve : talk
