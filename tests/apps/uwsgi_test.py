# SPDX-License-Identifier: MIT
"""uwsgi behind nginx, and that behind haproxy: workers forked from a master, which accept on one shared socket file or port, one with sendfile in front."""

import hashlib
import os
import signal

from lib import PROGS, free_port, listening, test, unix_listening

NEEDS = ("uwsgi-core", "nginx", "curl")
CONFIG = """
daemon off;
worker_processes 1;
error_log stderr warn;
pid %(dir)s/nginx.pid;
%(user)s
events { worker_connections 128; }
http {
	access_log off;
	client_max_body_size 64m;
	client_body_temp_path %(dir)s/body; proxy_temp_path %(dir)s/proxy; fastcgi_temp_path %(dir)s/fcgi;
	uwsgi_temp_path %(dir)s/uwsgi; scgi_temp_path %(dir)s/scgi;
	server {
		listen 127.0.0.1:%(port)d;
		listen unix:%(dir)s/front.sock;
		location /file/ { rewrite /file/(.*) /$1 break; include /etc/nginx/uwsgi_params; uwsgi_pass unix:%(dir)s/app.sock; }
		location / { include /etc/nginx/uwsgi_params; uwsgi_pass 127.0.0.1:%(app)d; }
	}
}
"""

# In front of all: over AF_UNIX as far as uwsgi.
HAPROXY = """
defaults
	mode http
	timeout connect 5s
	timeout client 20s
	timeout server 20s
listen front
	bind 127.0.0.1:%(port)d
	server one unix@%(dir)s/front.sock
"""


class Site:
	def __init__(self, bench):
		self.bench, self.port, self.app = bench, free_port(), free_port()
		with open(bench.path("nginx.conf"), "w") as f:
			f.write(CONFIG % {"dir": bench.dir, "port": self.port, "app": self.app, "user": "user root;" if os.geteuid() == 0 else ""})
		path = bench.path("app.sock")
		self.uwsgi = bench.serve(["uwsgi-core", "--plugin", "python3", "--master", "--need-app", "--die-on-term", "--processes", "2", "--disable-logging",
			"--uwsgi-socket", path, "--uwsgi-socket", "127.0.0.1:%d" % self.app, "--wsgi-file", os.path.join(PROGS, "wsgi_site.py")],
			lambda: listening(self.app)() and unix_listening(path)())
		self.nginx = bench.serve(["nginx", "-e", "stderr", "-p", bench.dir, "-c", bench.path("nginx.conf")], listening(self.port))

	def curl(self, *words):
		return self.bench.run(["curl", "-gsSf", *words]).out()

	def stop(self):
		self.bench.equal(self.nginx.stop(signal.SIGQUIT), 0, "exit status of nginx")
		self.uwsgi.stop()


def fetch(bench, site, url):
	data = os.urandom(6 << 20)
	with open(bench.path("upload"), "wb") as f:
		f.write(data)
	for size in (0, 1, 5000, 300000, 9 << 20):
		got = site.curl(url + "size/%d" % size)
		bench.check(got == (b"0123456789abcdef" * (size // 16 + 1))[:size], "%d bytes of %d, equal or not" % (len(got), size))
	bench.equal(site.curl("--data-binary", "@" + bench.path("upload"), url).decode(), hashlib.sha256(data).hexdigest(), "checksum of an upload")


@test("pages of all sizes and uploads pass from nginx to uwsgi over AF_UNIX and TCP", needs=NEEDS)
def pages(bench):
	site = Site(bench)
	for place in ("", "file/"):
		fetch(bench, site, "http://127.0.0.1:%d/%s" % (site.port, place))
	site.stop()
	for name in ("curl", "nginx", "uwsgi-core") if bench.both else ("curl",):  # the servers talk to each other, whatever the client is
		bench.expect_ring(name, share=0, least=1 << 20)


@test("the same through haproxy, nginx and uwsgi, all over AF_UNIX", needs=NEEDS + ("haproxy",))
def chain(bench):
	site, port = Site(bench), free_port()
	with open(bench.path("haproxy.cfg"), "w") as f:
		f.write(HAPROXY % {"dir": bench.dir, "port": port})
	haproxy = bench.serve(["haproxy", "-db", "-f", bench.path("haproxy.cfg")], listening(port))
	fetch(bench, site, "http://127.0.0.1:%d/file/" % port)
	bench.check(haproxy.stop(signal.SIGUSR1) in (0, 130, 143), "exit status of haproxy: %d" % haproxy.popen.returncode)
	site.stop()
	for name in ("curl", "haproxy", "nginx", "uwsgi-core") if bench.both else ("curl",):
		bench.expect_ring(name, share=0, least=1 << 20)


@test("wrk through nginx and uwsgi meets no error", needs=NEEDS + ("wrk",), variants=("auto", "ring"))
def load(bench):
	site = Site(bench)
	for place in ("", "file/"):
		said = bench.output(["wrk", "-t", "1", "-c", "8", "-d", "1s", "http://127.0.0.1:%d/%ssize/1000" % (site.port, place)])
		bench.check("Socket errors" not in said and "Non-2xx" not in said and "requests in" in said, said)
	site.stop()
