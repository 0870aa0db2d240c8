# SPDX-License-Identifier: MIT
# echo.pl serve|talk tcp|unix PORT|PATH: Perl's sockets. The server forks for each caller; the client forks for each of its conversations.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(SOMAXCONN SOL_SOCKET SO_RCVTIMEO SOCK_STREAM IPPROTO_TCP TCP_NODELAY);

my ($what, $kind, $where) = @ARGV;

sub dial {
	my $socket = $kind eq 'tcp' ? IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $where, Proto => 'tcp', Timeout => 20)
		: IO::Socket::UNIX->new(Peer => $where, Type => SOCK_STREAM, Timeout => 20);
	return $socket || die "connect: $!\n";
}

sub write_all {
	my ($socket, $bytes) = @_;
	for (my $done = 0; $done < length $bytes;) {
		my $n = syswrite($socket, $bytes, length($bytes) - $done, $done);
		die "write: $!\n" if !defined $n && !$!{EINTR};
		$done += $n || 0;
	}
}

sub read_rest {
	my ($socket) = @_;
	my $all = '';
	while (1) {
		my $n = sysread($socket, $all, 65536, length $all);
		die "read: $!\n" if !defined $n && !$!{EINTR};
		last if defined $n && $n == 0;
	}
	return $all;
}

sub serve {
	my $listener = $kind eq 'tcp' ? IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $where, ReuseAddr => 1, Listen => 100)
		: IO::Socket::UNIX->new(Local => $where, Type => SOCK_STREAM, Listen => 100);
	die "listen: $!\n" unless $listener;
	$SIG{CHLD} = 'IGNORE';
	while (1) {
		my $socket = $listener->accept or next;
		my $pid = fork // die "fork: $!\n";
		if ($pid == 0) {
			close $listener;
			my $bytes;
			write_all($socket, $bytes) while sysread($socket, $bytes, 65536);
			exit 0;
		}
		close $socket;
	}
}

# A child writes and ends its half, the parent reads what comes back.
sub whole {
	my ($size) = @_;
	my $sent = join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 0 .. $size / 4;
	$sent = substr $sent, 0, $size;
	my $socket = dial();
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0) {
		write_all($socket, $sent);
		$socket->shutdown(1);
		exit 0;
	}
	my $got = read_rest($socket);
	waitpid $pid, 0;
	die "sent $size bytes, got " . length($got) . ", equal or not\n" if $got ne $sent || $?;
}

# Perl's own buffers on both sides of a conversation.
sub turns {
	my $socket = dial();
	$socket->autoflush(1);
	for my $i (1 .. 200) {
		print $socket "turn $i\n" or die "print: $!\n";
		my $line = <$socket>;
		die "turn $i: $line\n" if $line ne "turn $i\n";
	}
	$socket->shutdown(1);
	die "something after the end\n" if defined <$socket>;
}

sub times_out {
	my $socket = dial();
	my $select = IO::Select->new($socket);
	die "ready for nothing\n" if $select->can_read(0.1);
	setsockopt($socket, SOL_SOCKET, SO_RCVTIMEO, pack('l!l!', 0, 100000)) or die "SO_RCVTIMEO: $!\n";
	die "read something\n" if defined sysread($socket, my $bytes, 1) || !$!{EAGAIN};
	eval {
		local $SIG{ALRM} = sub { die "alarm\n" };
		setsockopt($socket, SOL_SOCKET, SO_RCVTIMEO, pack('l!l!', 0, 0));
		Time::HiRes::ualarm(100000);
		sysread $socket, $bytes, 1;
	};
	die "no alarm: $@" if $@ ne "alarm\n";
	write_all($socket, 'late');
	$socket->shutdown(1);
	my $got = read_rest($socket);
	die "late answer: $got\n" if $got ne 'late';
}

sub short_ones {
	for my $i (1 .. 40) {
		my $socket = dial();
		write_all($socket, "call $i");
		$socket->shutdown(1);
		my $got = read_rest($socket);
		die "call $i: $got\n" if $got ne "call $i";
	}
}

sub talk {
	my @tasks = ((map { my $size = $_; sub { whole($size) } } 1, 100, 5000, 70001, 1000000, 300000), \&turns, \&times_out, \&short_ones);
	my $failed = 0;
	for my $task (@tasks) {
		my $pid = fork // die "fork: $!\n";
		next if $pid;
		eval { $task->(); 1 } or do { print STDERR "client: $@"; exit 1 };
		exit 0;
	}
	$failed ||= $? while wait != -1;
	print $failed ? "failed\n" : "ok\n";
}

use Time::HiRes ();
$what eq 'serve' ? serve() : talk();
