package tracing

// FromHeader is the parser of traceparent.
func FromHeader(header string) (trace [16]byte, parent [8]byte, sampled, ok bool) {
	return fromHeader(header)
}
