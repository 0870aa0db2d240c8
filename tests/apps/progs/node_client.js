// SPDX-License-Identifier: MIT
// node_client.js tcp|unix PORT|PATH: 20 clients at a time send bytes, end their half, and compare what comes back; then 100 small turns on one.
'use strict';
const crypto = require('crypto');
const net = require('net');

const [kind, where] = [process.argv[2], process.argv[3]];
const address = kind === 'tcp' ? { port: +where, host: '127.0.0.1', allowHalfOpen: true } : { path: where, allowHalfOpen: true };

function fail(why) {
	console.error('client: ' + why);
	process.exit(1);
}

function whole(size) {
	return new Promise((done) => {
		const sent = crypto.randomBytes(size);
		const parts = [];
		const socket = net.connect(address, () => { socket.end(sent); });
		socket.on('data', (part) => parts.push(part));
		socket.on('error', (e) => fail(e.message));
		socket.on('end', () => {
			const got = Buffer.concat(parts);
			if (!got.equals(sent))
				fail('sent ' + size + ' bytes, got ' + got.length + ', equal or not');
			done();
		});
	});
}

function turns(count) {
	return new Promise((done) => {
		let left = count, got = '';
		const socket = net.connect(address, () => socket.write('turn ' + left + '\n'));
		socket.on('error', (e) => fail(e.message));
		socket.on('data', (part) => {
			got += part;
			if (!got.endsWith('\n'))
				return;
			if (got !== 'turn ' + left + '\n')
				fail('turn ' + left + ': ' + got);
			got = '';
			if (--left)
				socket.write('turn ' + left + '\n');
			else
				socket.end();
		});
		socket.on('end', done);
	});
}

(async () => {
	const sizes = [1, 100, 5000, 70001, 1000000];
	await Promise.all(Array.from({ length: 20 }, (_, i) => whole(sizes[i % sizes.length])));
	await turns(100);
	console.log('ok');
	process.exit(0);
})();
