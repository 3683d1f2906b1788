// The first process of a pod: holds its namespaces until it is told to end, and reaps.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for each := range signals {
		if each != syscall.SIGCHLD {
			return
		}
		for {
			if number, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); number <= 0 {
				break
			}
		}
	}
}
