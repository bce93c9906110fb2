package events

// scan reads a CloudEvent in structured mode that is written as nearly all are: each attribute once, as a string, under
// its own name; data as JSON. False says nothing: encoding/json reads what is out of the ordinary, at several times the
// cost. Data is a part of the object, and is not judged here.
func (s *structured) scan(object []byte) bool {
	seen := uint32(0)
	return members(object, func(name, value []byte) error {
		at, to := s.attribute(string(name))
		if at < 0 {
			if !lowerCase(name) { // encoding/json may take it for one of them
				return errSyntax
			}
			return valid(value)
		}
		if seen&(1<<at) != 0 {
			return errSyntax
		}
		seen |= 1 << at
		if to == nil {
			if value[0] != '{' {
				return errSyntax
			}
			s.Data = value
			return nil
		}
		if value[0] != '"' {
			return errSyntax
		}
		return text(to, value, "")
	}) == nil
}

// attribute is the number of an attribute and where it goes: nowhere for data, −1 for one that is not known.
func (s *structured) attribute(name string) (int, *string) {
	switch name {
	case "specversion":
		return 0, &s.SpecVersion
	case "id":
		return 1, &s.ID
	case "source":
		return 2, &s.Source
	case "type":
		return 3, (*string)(&s.Type)
	case "time":
		return 4, &s.Time
	case "subject":
		return 5, &s.Subject
	case "datacontenttype":
		return 6, &s.ContentType
	case "project":
		return 7, &s.Project
	case "phase":
		return 8, (*string)(&s.Phase)
	case "key":
		return 9, &s.Key
	case "aggregate":
		return 10, &s.Aggregate
	case "principal":
		return 11, &s.Principal
	case "causationid":
		return 12, &s.Cause
	case "traceparent":
		return 13, &s.TraceParent
	case "chainid":
		return 14, &s.Chain
	case "causesequence":
		return 15, (*string)(&s.CauseSequence)
	case "configrevision":
		return 16, (*string)(&s.ConfigRevision)
	case "attempt":
		return 17, (*string)(&s.Attempt)
	case "deadline":
		return 18, &s.Deadline
	case "kind":
		return 19, &s.Kind
	case "sequence":
		return 20, (*string)(&s.Sequence)
	case "recordedtime":
		return 21, &s.RecordedTime
	case "data":
		return 22, nil
	}
	return -1, nil
}

// lowerCase reports whether a name is none that stands for another one when case is looked away from, as encoding/json
// does, and none of an attribute that is read elsewhere.
func lowerCase(name []byte) bool {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false // data_base64, too
		}
	}
	return true
}
