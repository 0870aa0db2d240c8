// SPDX-License-Identifier: MIT
// echo serve|talk tcp|unix PORT|PATH: Go's sockets, which make their system calls without libc.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"sync"
	"time"
)

type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func address() (string, string) {
	if os.Args[2] == "tcp" {
		return "tcp", "127.0.0.1:" + os.Args[3]
	}
	return "unix", os.Args[3]
}

func dial() halfCloser {
	network, place := address()
	conn, err := net.DialTimeout(network, place, 20*time.Second)
	check(err == nil, "dial", err)
	return conn.(halfCloser)
}

func check(right bool, what ...any) {
	if !right {
		panic(fmt.Sprintln(what...))
	}
}

func serve() {
	network, place := address()
	listener, err := net.Listen(network, place)
	check(err == nil, "listen", err)
	for {
		conn, err := listener.Accept()
		check(err == nil, "accept", err)
		go func() {
			defer conn.Close()
			// Not io.Copy: that would splice.
			buffer := make([]byte, 65536)
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				if _, err = conn.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func whole(size int) {
	sent := make([]byte, size)
	rand.Read(sent)
	conn := dial()
	defer conn.Close()
	go func() {
		conn.Write(sent)
		conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	check(err == nil && bytes.Equal(got, sent), "sent", size, "bytes, got", len(got), "equal or not", err)
}

func turns() {
	conn := dial()
	defer conn.Close()
	lines := bufio.NewReader(conn)
	for i := 0; i < 200; i++ {
		line := fmt.Sprintf("turn %d\n", i)
		conn.Write([]byte(line))
		got, err := lines.ReadString('\n')
		check(err == nil && got == line, line, got, err)
	}
	conn.CloseWrite()
	_, err := lines.ReadByte()
	check(err == io.EOF, "something after the end", err)
}

func timesOut() {
	conn := dial()
	defer conn.Close()
	one := make([]byte, 4)
	conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	_, err := conn.Read(one)
	check(errors.Is(err, os.ErrDeadlineExceeded), "read without time-out", err)
	conn.SetReadDeadline(time.Time{})
	conn.Write([]byte("late"))
	_, err = io.ReadFull(conn, one)
	check(err == nil && string(one) == "late", "late answer", err)
}

func shortOnes() {
	for i := 0; i < 40; i++ {
		whole(8)
	}
}

func talk() {
	var group sync.WaitGroup
	tasks := []func(){turns, timesOut, shortOnes}
	for _, size := range []int{1, 100, 5000, 70001, 1000000, 300000} {
		size := size
		tasks = append(tasks, func() { whole(size) })
	}
	for _, task := range tasks {
		task := task
		group.Add(1)
		go func() {
			defer group.Done()
			task()
		}()
	}
	group.Wait()
	fmt.Println("ok")
}

func main() {
	if os.Args[1] == "serve" {
		serve()
	}
	talk()
}
