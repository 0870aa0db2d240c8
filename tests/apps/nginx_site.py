# SPDX-License-Identifier: MIT
"""One nginx with a site of four files and a proxy before itself, for the tests of nginx and of what stands in front of it."""

import hashlib
import os
import signal

from lib import children, cmdline, free_port, listening, unix_listening

CONFIG = """
daemon %(daemon)s;
master_process on;
worker_processes %(workers)d;
error_log stderr warn;
pid %(dir)s/nginx.pid;
%(user)s
%(env)s
events { worker_connections 512; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	tcp_nodelay on;
	keepalive_requests 1000000;
	default_type application/octet-stream;
	client_max_body_size 64m;
	client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy; fastcgi_temp_path %(dir)s/fcgi;
	uwsgi_temp_path %(dir)s/uwsgi; scgi_temp_path %(dir)s/scgi;
	upstream origin { server 127.0.0.1:%(back)d; keepalive 8; }
	upstream file { server unix:%(dir)s/back.sock; keepalive 8; }
	server {
		listen 127.0.0.1:%(port)d%(listen)s;
		listen [::1]:%(port)d%(listen)s;
		listen unix:%(dir)s/front.sock;
		root %(dir)s/www;
		location /origin/ { proxy_pass http://origin/; proxy_http_version 1.1; proxy_set_header Connection ""; }
		location /file/ { proxy_pass http://file/; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
	server {
		listen 127.0.0.1:%(back)d;
		listen unix:%(dir)s/back.sock;
		root %(dir)s/www;
	}
}
"""


def workers_of(master):
	return {p for p in children(master) if cmdline(p)[0].startswith("nginx: worker process") and "shutting" not in cmdline(p)[0]}


class Nginx:
	def __init__(self, bench, workers=2, listen="", daemon=False, env=()):
		self.bench, self.port, self.back, self.files = bench, free_port(), free_port(), {}
		os.mkdir(bench.path("www"))
		for name, size in (("small", 1024), ("big", 10 << 20), ("empty", 0), ("odd", 70001)):
			content = os.urandom(size)
			self.files[name] = hashlib.sha256(content).hexdigest()
			with open(bench.path("www/" + name), "wb") as f:
				f.write(content)
		with open(bench.path("nginx.conf"), "w") as f:
			f.write(CONFIG % {"workers": workers, "dir": bench.dir, "port": self.port, "back": self.back, "listen": listen,
				"env": " ".join("env %s;" % name for name in env),  # what else its new binary finds: nginx clears it
				"daemon": "on" if daemon else "off", "user": "user root;" if os.geteuid() == 0 else ""})
		self.proc = bench.serve(["nginx", "-e", "stderr", "-p", bench.dir, "-c", bench.path("nginx.conf")], self._ready, daemon=daemon)

	def _ready(self):
		return listening(self.port)() and listening(self.back)() and unix_listening(self.bench.path("back.sock"))()

	def workers(self):
		"""The serving workers: not those that a reload told to go."""
		return workers_of(self.proc.pid)

	def url(self, path, host="127.0.0.1"):
		return "http://%s:%d/%s" % ("[%s]" % host if ":" in host else host, self.port, path)

	def fetch(self, name, *how, url=None):
		"""Fetches one file with curl and compares the checksum."""
		target = self.bench.path("fetched")
		self.bench.run(["curl", "-gsSf", "-o", target, *how, url or self.url(name)])
		with open(target, "rb") as f:
			self.bench.equal(hashlib.sha256(f.read()).hexdigest(), self.files[name], "checksum of " + name)
		os.unlink(target)

	def stop(self, sig=signal.SIGTERM):
		self.bench.equal(self.proc.stop(sig), 0, "exit status of nginx")
