//go:build !unix

package main

// dumpOff does nothing: the system has no core dumps to turn off.
func dumpOff() error { return nil }
