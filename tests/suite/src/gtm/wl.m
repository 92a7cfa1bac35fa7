wl	; the workload: transactions across all regions for ever; "commit <n> <us since 1970>" on standard output after each
	; $zcmdline: milliseconds between two transactions, bytes of a value, then the globals without ^
	new args,pace,size,g,i,n,pad,last
	set args=$zcmdline,pace=+$piece(args," ",1)/1000,size=+$piece(args," ",2),pad=$justify("",size)
	for i=3:1:$length(args," ") set g(i-2)="^"_$piece(args," ",i)
	; the numbers sort before "r"
	set last=+$order(@g(1)@("r"),-1)
	use $principal:(nowrap)
	for n=last+1:1 do
	. tstart ():serial
	. set i="" for  set i=$order(g(i)) quit:i=""  set @g(i)@(n)=n,@g(i)@("r",$random(4000))=n_":"_pad
	. tcommit
	. write "commit ",n," ",$zut,!
	. hang:pace>0 pace
	quit
