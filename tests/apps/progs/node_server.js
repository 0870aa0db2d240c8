// SPDX-License-Identifier: MIT
// node_server.js plain|threads|cluster|handed PORT|PATH: echoes what comes, the end included.
'use strict';
const cluster = require('cluster');
const net = require('net');
const threads = require('worker_threads');

const [how, where] = [process.argv[2], process.argv[3]];
const address = /^\d+$/.test(where) ? { port: +where, host: '127.0.0.1' } : { path: where };

function echo(socket) {
	socket.on('error', (e) => { console.error('server: ' + e.message); });
	socket.pipe(socket);
}

// A thread turns the bytes round by itself: the socket stays with the main thread.
function through(worker, socket, id) {
	worker.postMessage({ id, open: true });
	socket.on('data', (data) => worker.postMessage({ id, data }));
	socket.on('end', () => worker.postMessage({ id, end: true }));
	socket.on('error', (e) => { console.error('server: ' + e.message); });
}

function threaded() {
	const worker = new threads.Worker(__filename, { argv: process.argv.slice(2) });
	const sockets = new Map();
	let next = 0;
	worker.on('message', (m) => {
		const socket = sockets.get(m.id);
		if (m.end) {
			socket.end();
			sockets.delete(m.id);
		} else {
			socket.write(m.data);
		}
	});
	net.createServer({ allowHalfOpen: true }, (socket) => {
		sockets.set(++next, socket);
		through(worker, socket, next);
	}).listen(address);
}

function handed() {
	const { fork } = require('child_process');
	const workers = [0, 1].map(() => fork(__filename, ['child', where]));
	let turn = 0;
	net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => workers[turn++ % 2].send('socket', socket)).listen(address);
	process.on('SIGTERM', () => { workers.forEach((w) => w.kill()); process.exit(0); });
}

if (!threads.isMainThread) {
	threads.parentPort.on('message', (m) => { if (!m.open) threads.parentPort.postMessage(m); });
} else if (how === 'threads') {
	threaded();
} else if (how === 'handed') {
	handed();
} else if (how === 'child') {
	process.on('message', (m, socket) => { if (socket) { echo(socket); socket.resume(); } });
} else if (how === 'cluster' && cluster.isPrimary) {
	for (let i = 0; i < 2; i++)
		cluster.fork();
	process.on('SIGTERM', () => { for (const w of Object.values(cluster.workers)) w.process.kill(); process.exit(0); });
} else {
	net.createServer({ allowHalfOpen: true }, echo).listen(address);
}
